"""Batches made from batches: cut, split, sampled, joined, transformed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.batch import concatenate, num_points, take
from hoarfrost.data.streams import Batches, StreamBatches, own
from hoarfrost.errors import DataError, InvalidArgumentError


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
        for batch in _in_one_order(batches, None):
            yield take(batch, slice(0, left)) if num_points(batch) > left else batch
            left -= num_points(batch)
            if left <= 0:
                return

    def second(_: int | None) -> Iterator[Any]:
        left = n_data
        for batch in _in_one_order(batches, None):
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
    """The inputs (0) or the targets (1) of pairs, in the same order in the same epoch."""
    if isinstance(batches, ArrayBatches):
        return replace(batches, data=batches.data[index])

    def selected(epoch: int | None) -> Iterator[Any]:
        return (batch[index] for batch in _in_one_order(batches, epoch))

    return StreamBatches(selected, names, batches.sizes)


def transformed(
    batches: Batches, transform: Callable[..., Any], status: Any, names: tuple[str, ...]
) -> Batches:
    """Batches as a function of the user's returns them, a status handed from each to the next.

    Every pass starts from a copy of the status, which a transform may change in place. A batch for
    which None is returned is left out.

    Raises
    ------
    InvalidArgumentError
        If `transform` cannot be called, or the status cannot be copied.
    """
    if not callable(transform):
        raise InvalidArgumentError(
            f"transform is a {type(transform).__name__}; give a function "
            f"({', '.join(names)}, status) -> ({', '.join(names)}, status)"
        )
    given = _copied_status(status)

    def results(epoch: int | None) -> Iterator[Any]:
        current = _copied_status(given)
        for index, batch in enumerate(batches.epoch(epoch)):
            # A transform may change its batch in place, and not the arrays that it came from.
            batch = own(batch)
            parts = batch if len(names) == 2 else (batch,)
            result = transform(*parts, current)
            if result is None:
                continue
            if not isinstance(result, tuple) or len(result) != len(names) + 1:
                raise DataError(
                    f"transform must return the tuple ({', '.join(names)}, status), or None to "
                    f"leave a batch out, but for batch {index} it returned a value of type "
                    f"{type(result).__name__}"
                )
            *changed, current = result
            yield tuple(changed) if len(names) == 2 else changed[0]

    return StreamBatches(results, names)


def labelled(
    sources: Sequence[Batches], targets: np.ndarray, how: str, names: tuple[str, ...]
) -> Batches:
    """Pairs from inputs alone: every point of source i gets the i-th target.

    "interpose" joins the i-th batches of all sources into one; "concatenate" goes through one
    source after the other.
    """

    def pairs(source: Batches, target: Any, epoch: int | None) -> Iterator[Any]:
        for inputs in source.epoch(epoch):
            yield inputs, np.full(num_points(inputs), target)

    def opened(epoch: int | None) -> Iterator[Any]:
        parts = [
            pairs(source, target, epoch) for source, target in zip(sources, targets, strict=True)
        ]
        if how == "concatenate":
            return chain.from_iterable(parts)
        return (concatenate(_there(together)) for together in zip_longest(*parts))

    sizes = None
    known = [source.sizes for source in sources if source.sizes is not None]
    if len(known) == len(sources):
        sizes = tuple(
            chain.from_iterable(known)
            if how == "concatenate"
            else (sum(_there(together)) for together in zip_longest(*known))
        )
    return StreamBatches(opened, names, sizes)


def _there(together: Iterable[Any]) -> list[Any]:
    """What there is of the i-th items, where some sources are used up."""
    return [item for item in together if item is not None]


def _in_one_order(batches: Batches, epoch: int | None) -> Iterator[Any]:
    """Batches of an epoch, for parts of them that are gone over by themselves."""
    if isinstance(batches, StreamBatches):
        return batches.in_one_order(epoch)
    return batches.epoch(epoch)


def _copied_status(status: Any) -> Any:
    try:
        return copy.deepcopy(status)
    except Exception as error:
        raise InvalidArgumentError(
            f"status is a {type(status).__name__} that cannot be copied ({error}), but every pass "
            "starts from it as it was given; give numbers or arrays, and let transform hold the "
            "rest"
        ) from error
