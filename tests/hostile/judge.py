"""What came of a case: right, a typed error, a raw error, or a wrong result."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from meaning import Boom, Hostile, Open, Raises, Same, Senseless

import hoarfrost
from hoarfrost.errors import HoarfrostError, InternalError

ROOT = str(Path(hoarfrost.__file__).parent)
RIGHT, TYPED, RAW, WRONG = "right", "typed error", "raw error", "wrong"
ABORT, HANG = "abort", "hang"
OUTCOMES = (RIGHT, TYPED, RAW, WRONG, ABORT, HANG)

HALF = 2.0**-16

Call = Callable[[Any], Any]
Oracle = Callable[[Any, Any], str]


@dataclass(frozen=True)
class Verdict:
    """An outcome, and why."""

    outcome: str
    message: str = ""


def judge(call: Call, hostile: Hostile, argument: str, oracle: Oracle | None) -> Verdict:
    """Make the call with a hostile value and say what came of it.

    `oracle` says of a value and a result what is wrong with it, or nothing.
    """
    raw: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            result = call(hostile.value)
            leaves_of(result)
        raw = [text for warning in heard if (text := raw_warning(warning))]
    except Boom:
        if isinstance(hostile.meaning, Raises):
            return Verdict(RIGHT)
        return Verdict(WRONG, "raised what no value of this case raises")
    except Exception as error:
        return of_error(error, argument)
    if raw:
        return Verdict(RAW, f"warning: {raw[0]}")
    return of_result(result, call, hostile, oracle)


def raw_warning(warning: warnings.WarningMessage) -> str:
    """The text of a warning that is none of ours."""
    text = f"{warning.category.__name__}: {warning.message}"
    ours = issubclass(warning.category, UserWarning) and "truncated to dtype" not in text
    return "" if ours else text


def of_error(error: Exception, argument: str) -> Verdict:
    text = f"{type(error).__name__}: {error}".splitlines()
    message = text[0][:300] if text else type(error).__name__
    if isinstance(error, HoarfrostError) and not isinstance(error, InternalError):
        return Verdict(TYPED, message)
    frames = traceback.extract_tb(error.__traceback__)
    ours = bool(frames) and frames[-1].filename.startswith(ROOT)
    if ours and type(error) in (TypeError, ValueError) and argument in str(error):
        return Verdict(TYPED, message)
    # The core is private: that Python cannot convert an argument for it tells our own code enough.
    in_core = bool(frames) and frames[-1].filename.endswith("core_subjects.py")
    if in_core and type(error) in (TypeError, ValueError, OverflowError):
        return Verdict(TYPED, message)
    inside = [frame for frame in frames if frame.filename.startswith(ROOT)]
    place = f"{Path(inside[-1].filename).relative_to(ROOT)}:{inside[-1].lineno}" if inside else "?"
    return Verdict(RAW, f"{message} [{place}]")


def of_result(result: Any, call: Call, hostile: Hostile, oracle: Oracle | None) -> Verdict:
    meaning = hostile.meaning
    if isinstance(meaning, Senseless):
        return Verdict(WRONG, f"a value without sense gave {short(result)}")
    if isinstance(meaning, Raises):
        return Verdict(WRONG, f"the error of a callable was lost: {short(result)}")
    if isinstance(meaning, Same):
        try:
            plain = call(meaning.plain)
        except Exception as error:
            if meaning.eps > HALF and isinstance(error, HoarfrostError):
                return Verdict(RIGHT)  # half precision is allowed more rounding
            text = f"{type(error).__name__}: {error}"[:200]
            return Verdict(WRONG, f"gave {short(result)} where its plain form raises {text}")
        if not close(result, plain, meaning.eps):
            return Verdict(WRONG, f"gave {short(result)}, its plain form {short(plain)}")
        return Verdict(RIGHT)
    assert isinstance(meaning, Open)
    if oracle is not None and (fault := oracle(hostile.value, result)):
        return Verdict(WRONG, fault)
    if oracle is None and holds_nan(result):
        return Verdict(WRONG, f"a result holds NaN: {short(result)}")
    return Verdict(RIGHT)


def leaves_of(result: Any) -> list[Any]:
    """Leaves, computed: an error that waits in JAX's queue comes here."""
    return [
        leaf.block_until_ready() if isinstance(leaf, jax.Array) else leaf
        for leaf in jax.tree.leaves(result)
    ]


def numbers(leaf: Any) -> np.ndarray | None:
    """A leaf as float64, if it holds numbers."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    try:
        array = np.asarray(leaf)
        return array.astype(np.float64) if array.dtype.kind in "fiubV" else None
    except (TypeError, ValueError):
        return None


def holds_nan(result: Any) -> bool:
    found = [numbers(leaf) for leaf in jax.tree.leaves(result)]
    return any(array is not None and bool(np.isnan(array).any()) for array in found)


def close(first: Any, second: Any, eps: float) -> bool:
    """Whether two results are equal, but for the rounding of numbers."""
    leaves, structures = zip(*map(jax.tree.flatten, (first, second)), strict=True)
    if structures[0] != structures[1]:
        return False
    return all(close_leaves(a, b, eps) for a, b in zip(*leaves, strict=True))


def close_leaves(first: Any, second: Any, eps: float) -> bool:
    a, b = numbers(first), numbers(second)
    if a is None or b is None:
        try:
            return bool(np.all(np.asarray(first == second))) or repr(first) == repr(second)
        except (TypeError, ValueError):
            return repr(first) == repr(second)
    if a.shape != b.shape:
        return False
    scale = max(1.0, float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0)))
    with np.errstate(invalid="ignore"):
        equal = (a == b) | (np.abs(a - b) <= 64 * eps * scale)
    return bool(np.all(equal | (np.isnan(a) & np.isnan(b))))


def short(result: Any) -> str:
    return " ".join(repr(result).split())[:120]
