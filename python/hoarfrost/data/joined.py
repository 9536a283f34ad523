"""Arrays one after the other, as one array of which rows are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np


class JoinedRows:
    """What batches are cut from, where the points lie in several arrays.

    Parameters
    ----------
    sizes : sequence of int
        Points of each part.
    shape : tuple of int
        Of one point.
    dtype : numpy.dtype
        Of all parts.
    part : callable (int) -> array
        The i-th part, such as a file that is mapped when it is needed.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        shape: tuple[int, ...],
        dtype: Any,
        part: Callable[[int], np.ndarray],
    ) -> None:
        self.sizes, self.dtype, self._part = tuple(sizes), np.dtype(dtype), part
        self.shape = (sum(self.sizes), *shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.sizes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Rows of a slice or of whole numbers in an array, in a new array."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._range(start, max(start, stop))
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        parts = np.searchsorted(self._ends, rows, side="right")
        for part in np.unique(parts):
            here = np.flatnonzero(parts == part)
            found[here] = self._part(int(part))[rows[here] - self._start(int(part))]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self._range(0, len(self))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _start(self, part: int) -> int:
        return int(self._ends[part]) - self.sizes[part]

    def _range(self, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        part = int(np.searchsorted(self._ends, start, side="right"))
        done = start
        while done < stop:
            first = self._start(part)
            end = min(stop, int(self._ends[part]))
            found[done - start : end - start] = self._part(part)[done - first : end - first]
            done, part = end, part + 1
        return found


def joined(parts: Sequence[np.ndarray]) -> Any:
    """Arrays one after the other as one: the array itself where there is one."""
    if len(parts) == 1:
        return parts[0]
    sizes = [len(part) for part in parts]
    return JoinedRows(sizes, parts[0].shape[1:], parts[0].dtype, list(parts).__getitem__)
