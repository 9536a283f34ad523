"""Batches made from batches: cut, split, sampled, joined, transformed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.batch import concatenate, num_points, take
from hoarfrost.data.streams import Batches, StreamBatches
from hoarfrost.errors import DataError


def chop(batches: Batches, divisor: int, names: tuple[str, ...]) -> Batches:
    """Each batch without its last points, so that `divisor` divides its length."""

    def chopped(epoch: int | None) -> Iterator[Any]:
        for batch in batches.epoch(epoch):
            size = num_points(batch)
            if size % divisor == 0:
                yield batch
            elif size > divisor:
                yield take(batch, slice(0, size - size % divisor))

    sizes = batches.sizes
    if sizes is not None:
        sizes = tuple(size - size % divisor for size in sizes if size >= divisor)
    return StreamBatches(chopped, names, sizes)


def split(batches: Batches, n_data: int, names: tuple[str, ...]) -> tuple[Batches, Batches]:
    """The first `n_data` points, and the others."""
    if isinstance(batches, ArrayBatches):
        # A shuffled source is cut in the order of its first epoch, so that data sorted by class
        # are split at random; the points of either part then never change.
        order = batches.order(0)
        rows = np.arange(batches.size) if order is None else order
        return replace(batches, rows=rows[:n_data]), replace(batches, rows=rows[n_data:])

    # In the order given: with a new order each epoch, points would move between the parts.
    def first(_: int | None) -> Iterator[Any]:
        left = n_data
        for batch in batches.epoch(None):
            yield take(batch, slice(0, left)) if num_points(batch) > left else batch
            left -= num_points(batch)
            if left <= 0:
                return

    def second(_: int | None) -> Iterator[Any]:
        left = n_data
        for batch in batches.epoch(None):
            size = num_points(batch)
            if left <= 0:
                yield batch
            elif size > left:
                yield take(batch, slice(left, size))
            left -= size

    return StreamBatches(first, names), StreamBatches(second, names)


def sample(batches: Batches, rows: np.ndarray, batch_size: int) -> Batches:
    """The points at `rows` (repeats allowed), counted in the order given."""
    if isinstance(batches, ArrayBatches):
        return replace(batches, rows=rows if batches.rows is None else batches.rows[rows])
    wanted = np.unique(rows)
    found, start = [], 0
    for batch in batches.epoch(None):
        stop = start + num_points(batch)
        here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, stop)]
        if here.size:
            found.append(take(batch, here - start))
        start = stop
    return ArrayBatches(
        concatenate(found), rows=np.searchsorted(wanted, rows), batch_size=batch_size
    )


def select(batches: Batches, index: int, names: tuple[str, ...]) -> Batches:
    """The inputs (0) or the targets (1) of pairs, in the order given."""
    if isinstance(batches, ArrayBatches):
        return replace(batches, data=batches.data[index], shuffle=False)

    def selected(_: int | None) -> Iterator[Any]:
        return (batch[index] for batch in batches.epoch(None))

    return StreamBatches(selected, names, batches.sizes)


def transformed(
    batches: Batches, transform: Callable[..., Any], status: Any, names: tuple[str, ...]
) -> Batches:
    """Batches as a function of the user's returns them, a status handed from each to the next."""

    def results(epoch: int | None) -> Iterator[Any]:
        current = status
        for index, batch in enumerate(batches.epoch(epoch)):
            parts = batch if len(names) == 2 else (batch,)
            result = transform(*parts, current)
            if not isinstance(result, tuple) or len(result) != len(names) + 1:
                raise DataError(
                    f"transform must return the tuple ({', '.join(names)}, status), but for batch "
                    f"{index} it returned a value of type {type(result).__name__}"
                )
            *changed, current = result
            yield tuple(changed) if len(names) == 2 else changed[0]

    return StreamBatches(results, names)


def labelled(
    sources: Sequence[Batches], targets: Sequence[int], how: str, names: tuple[str, ...]
) -> Batches:
    """Pairs from inputs alone: every point of source i gets the i-th target."""

    def pairs(source: Batches, target: int, epoch: int | None) -> Iterator[Any]:
        for inputs in source.epoch(epoch):
            yield inputs, np.full(num_points(inputs), target)

    def joined(epoch: int | None) -> Iterator[Any]:
        parts = [
            pairs(source, target, epoch) for source, target in zip(sources, targets, strict=True)
        ]
        return _interposed(parts) if how == "interpose" else chain.from_iterable(parts)

    known = [source.sizes for source in sources]
    sizes = None
    if all(part is not None for part in known):
        parts = [iter(part) for part in known if part is not None]
        joined_sizes = _interposed(parts) if how == "interpose" else chain.from_iterable(parts)
        sizes = tuple(joined_sizes)
    return StreamBatches(joined, names, sizes)


def _interposed(iterators: Iterable[Iterator[Any]]) -> Iterator[Any]:
    """One item of each in turn, until all of them are used up."""
    waiting = list(iterators)
    ended = object()
    while waiting:
        still = []
        for iterator in waiting:
            item = next(iterator, ended)
            if item is not ended:
                yield item
                still.append(iterator)
        waiting = still
