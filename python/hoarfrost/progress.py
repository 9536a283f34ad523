"""Progress bars: one place decides whether and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    description: str = "",
    total: int | None = None,
    enabled: bool = True,
    unit: str = "it",
) -> tqdm:
    """A tqdm bar on standard error, silent when `enabled` is false.

    Parameters
    ----------
    iterable : iterable, optional
        What the bar goes over; without one, call ``update`` on what is returned.
    description : str
        Shown before the bar.
    total : int, optional
        Number of steps, where `iterable` has no length.
    enabled : bool
        Whether anything is printed.
    unit : str
        What one step is called.
    """
    return tqdm(iterable, desc=description, total=total, disable=not enabled, unit=unit)
