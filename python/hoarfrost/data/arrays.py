"""Batches of data held in arrays: any row at any time, nothing copied but the batch itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from hoarfrost.data.batch import native, num_points, take
from hoarfrost.data.prefetch import prefetched


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Batches drawn from a tree of arrays, in the order given or in a new order each epoch.

    Attributes
    ----------
    data : tree of arrays
        Checked: all leaves share the length of their first axis.
    rows : (n,) integers or None
        The points that belong to this object, in order; None for all of them.
    batch_size : int or None
        Points in a batch (the last may hold fewer); None for a single batch.
    shuffle : bool
        Whether epoch n goes through the points in an order of its own, a function of (seed, n).
    prefetch : bool
        Whether a background thread gathers the next batches.
    seed : int
        Seed of the orders.
    """

    data: Any
    rows: np.ndarray | None = None
    batch_size: int | None = None
    shuffle: bool = False
    prefetch: bool = False
    seed: int = 0

    @cached_property
    def size(self) -> int:
        """Number of data points."""
        return num_points(self.data) if self.rows is None else len(self.rows)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of points of each batch, found without going through the data."""
        step = self.batch_size or max(self.size, 1)
        return tuple(min(step, self.size - start) for start in range(0, self.size, step))

    def order(self, epoch: int | None) -> np.ndarray | None:
        """Row of the data at each place of an epoch; None stands for 0, 1, 2, ..."""
        if not self.shuffle or epoch is None:
            return self.rows
        permutation = np.random.default_rng((self.seed, epoch)).permutation(self.size)
        return permutation if self.rows is None else self.rows[permutation]

    def epoch(self, epoch: int | None) -> Iterator[Any]:
        """Batches of an epoch; None for the order given."""
        batches = self._gathered(self.order(epoch))
        return prefetched(batches) if self.prefetch else batches

    @cached_property
    def _in_order_of_bytes(self) -> Callable[[Any], Any]:
        """What brings batches into this machine's byte order: nothing, where the data are in it."""
        swapped = (not getattr(leaf.dtype, "isnative", True) for leaf in jax.tree.leaves(self.data))
        return native if any(swapped) else _as_it_is

    def _gathered(self, order: np.ndarray | None) -> Iterator[Any]:
        start, ready = 0, self._in_order_of_bytes
        for size in self.sizes:
            if order is not None:
                yield ready(take(self.data, order[start : start + size]))
            elif size == self.size:
                yield ready(self.data)
            else:
                yield ready(take(self.data, slice(start, start + size)))
            start += size


def _as_it_is(batch: Any) -> Any:
    return batch
