"""What oracles share: numbers in float64 and their comparison.

An oracle takes the arguments of a call and its result, and says what is wrong with it, or "".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Arguments = dict[str, Any]
Oracle = Callable[[Arguments, Any], str]


def wide(value: Any) -> np.ndarray:
    return np.asarray(value).astype(np.float64)


def agrees(found: Any, wanted: Any, rtol: float = 2e-6, atol: float = 1e-7) -> str:
    found, wanted = wide(found), wide(wanted)
    if found.shape != wanted.shape:
        return f"shape {found.shape}, not {wanted.shape}"
    with np.errstate(invalid="ignore", over="ignore"):
        # What float32 cannot hold is infinite in it.
        wanted32 = np.where(
            np.abs(wanted) > np.finfo(np.float32).max, np.sign(wanted) * np.inf, wanted
        )
        equal = (found == wanted) | (found == wanted32)
        equal |= np.isnan(found) & np.isnan(wanted)
        equal |= np.abs(found - wanted) <= atol + rtol * np.abs(wanted)
    if np.all(equal):
        return ""
    place = tuple(int(i) for i in np.argwhere(~equal)[0])
    return f"{found[place]}, not {wanted[place]}{f' at {place}' if place else ''}"
