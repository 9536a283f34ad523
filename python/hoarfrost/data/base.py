"""What the three loaders have in common: passes over the data, sizes, and parts of themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from hoarfrost.checks import check_count, check_integer, check_switch
from hoarfrost.data import operations
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.batch import PAIR, checked_batch, concatenate, native, num_points
from hoarfrost.data.streams import Batches, Reopened, StreamBatches, reiterable
from hoarfrost.errors import DataError, InvalidArgumentError
from hoarfrost.memory import check_room


class Loader:
    """Base of `DataLoader`, `InputsLoader` and `TargetsLoader`.

    Parameters
    ----------
    iterable : iterable of batches
        Anything that can be gone over more than once, such as a list of batches.

    Raises
    ------
    DataError
        If `iterable` is a one-shot iterator, such as a generator.
    InvalidArgumentError
        If it is no iterable of batches, such as an array, or a loader of something else.
    """

    _names: ClassVar[tuple[str, ...]]
    # The network that features are of; None where batches are data (`hoarfrost.data.features`).
    _origin: Any = None

    def __init__(self, iterable: Iterable[Any] | Batches) -> None:
        self._batches = batches_of(iterable, self._names)
        self._next_epoch = 0

    @classmethod
    def from_callable_iterable(cls, fun: Callable[[], Iterable[Any]]) -> Self:
        """A loader over the iterable that a function returns.

        Parameters
        ----------
        fun : callable () -> iterable of batches
            Called at the start of every pass; must return an iterable that starts from the
            beginning, with the points in the same order wherever order matters (`split`, `sample`,
            inputs and targets taken apart).

        Raises
        ------
        DataError
            At the second pass, if `fun` returns an iterator that is used up.
        """
        if not callable(fun):
            raise InvalidArgumentError(
                f"fun must be a function that returns an iterable of batches, but it is of "
                f"type {type(fun).__name__}; give an iterable to from_iterable"
            )
        return cls(StreamBatches(Reopened(fun), cls._names))

    @classmethod
    def from_iterable(cls, iterable: Iterable[Any]) -> Self:
        """A loader over an iterable of batches that can be gone over more than once.

        Raises
        ------
        DataError
            If it is a one-shot iterator, such as a generator.
        """
        return cls(iterable)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch: the k-th time that iteration starts gives epoch k - 1.

        Nothing else moves that counter: sizes, labels, shapes, ``epoch`` and ``in_order`` leave it
        where it is.
        """
        epoch = self._next_epoch
        self._next_epoch += 1
        return self.epoch(epoch)

    def __len__(self) -> int:
        """Number of batches of one pass."""
        return len(self._sizes)

    def epoch(self, n: int) -> Iterator[Any]:
        """The batches of epoch `n`; with ``shuffle=True`` their order depends on (seed, n) alone.

        Raises
        ------
        DataError
            While iterating: if there is no batch at all, or one does not fit together.
        """
        return self._pass(check_integer("n", n, 0))

    def in_order(self) -> Iterator[Any]:
        """The batches in the order in which the data were given, shuffled or not."""
        return self._pass(None)

    @property
    def holds_arrays(self) -> bool:
        """Whether all epochs have the same points: the loader was made from arrays."""
        return isinstance(self._batches, ArrayBatches)

    @property
    def size(self) -> int:
        """Number of data points; for iterables, counted in one pass and remembered."""
        return sum(self._sizes)

    def chop(self, divisor: int) -> Self:
        """A loader whose batches leave out their last points, so that `divisor` divides them.

        A batch with fewer than `divisor` points is left out.
        """
        return self._like(
            operations.chop(self._batches, check_integer("divisor", divisor), self._names)
        )

    def split(self, n_data: int) -> tuple[Self, Self]:
        """Two loaders: one with exactly `n_data` points, and one with the others.

        A loader made from arrays with ``shuffle=True`` is split at random (by its seed), and each
        part draws a new order each epoch; any other loader is split in the order given, and its
        parts keep that order.

        Raises
        ------
        InvalidArgumentError
            If `n_data` does not leave at least one point on either side, where the size is known.
        DataError
            While iterating: if the loader shuffles by itself, so that points would move between
            the parts.
        """
        n_data = check_integer("n_data", n_data)
        sizes = self._batches.sizes
        if sizes is not None and n_data >= sum(sizes):
            raise InvalidArgumentError(
                f"n_data must be smaller than the number of data points, {sum(sizes)}, so that "
                f"both parts hold some, but it is {n_data}"
            )
        first, second = operations.split(self._batches, n_data, self._names)
        return self._like(first), self._like(second)

    def sample(self, seed: int, n_samples: int, *, replace: bool = True) -> Self:
        """A loader of `n_samples` points drawn uniformly at random, as many as are asked for.

        Parameters
        ----------
        seed : int
            The same seed draws the same points.
        n_samples : int
            Number of points.
        replace : bool
            With replacement by default, a bootstrap sample; without, no point comes twice.

        Raises
        ------
        InvalidArgumentError
            If more points are asked for than there are, without replacement.
        MemoryLimitError
            If there is no room for their indices.
        """
        seed = check_integer("seed", seed, 0)
        n_samples = check_count("n_samples", n_samples, 1)
        replace = check_switch("replace", replace)
        # Rows as they are drawn, their order, and each in the place of its batch.
        check_room(f"a sample of {n_samples} points", 24 * n_samples, "ask for fewer")
        size = self.size
        if not replace and n_samples > size:
            raise InvalidArgumentError(
                f"n_samples must be at most the number of data points, {size}, with replace=False, "
                f"but it is {n_samples}; use replace=True"
            )
        rows = np.random.default_rng(seed).choice(size, n_samples, replace=replace)
        return self._like(operations.sample(self._batches, rows, self._sizes[0]))

    def _like(self, batches: Batches) -> Self:
        """A loader of the same kind over other batches."""
        return type(self)(batches)

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        known = self._batches.sizes
        sizes = tuple(num_points(batch) for batch in self.in_order()) if known is None else known
        if not sizes:
            raise _empty()
        return sizes

    def _pass(self, epoch: int | None) -> Iterator[Any]:
        empty = True
        with closing(self._batches.epoch(epoch)) as batches:  # type: ignore[type-var]
            for batch in batches:
                # A batch without points (of an iterable, or of a transformation) adds nothing.
                if num_points(batch) > 0:
                    empty = False
                    yield batch
        if empty:
            raise _empty()

    def _first(self) -> Any:
        with closing(self.in_order()) as batches:  # type: ignore[type-var]
            return next(batches)

    def _gathered(self) -> Any:
        if isinstance(self._batches, ArrayBatches) and self._batches.rows is None:
            return concatenate([native(self._batches.data)])
        return concatenate(list(self.in_order()))


def batches_of(value: Any, names: tuple[str, ...], argument: str = "iterable") -> Batches:
    """The batches of a loader, or of an iterable of them that can be gone over again.

    Raises
    ------
    InvalidArgumentError
        If it is a loader of something else, or no iterable of batches.
    DataError
        If it is a one-shot iterator.
    """
    if isinstance(value, ArrayBatches | StreamBatches):
        return value
    if not isinstance(value, Loader):
        return StreamBatches(reiterable(value, names, argument), names)
    if value._origin is not None:
        raise InvalidArgumentError(
            f"{argument} is a {type(value).__name__}, which holds inputs of a network's last "
            "layer; use its own to_inputs_loader, split and sample, which know that network"
        )
    if value._names != names:
        has, wants = " and ".join(value._names), " and ".join(names)
        remedy = (
            f"loader.to_{names[0]}_loader()"
            if value._names == PAIR
            else "the DataLoader that it was made from, or DataLoader.from_array_data((inputs, "
            "targets), batch_size=128)"
        )
        raise InvalidArgumentError(
            f"{argument} is a {type(value).__name__}, which gives {has}, where {wants} are needed; "
            f"give {remedy}"
        )
    return value._batches


def array_source(
    data: Any,
    batch_size: int | None,
    shuffle: bool,
    prefetch: bool,
    seed: int,
    names: tuple[str, ...],
) -> ArrayBatches:
    """Arrays as batches, after checking the options that every loader of arrays has."""
    if batch_size is not None:
        batch_size = check_integer(
            "batch_size", batch_size, hint="; None puts all points in one batch"
        )
    return ArrayBatches(
        checked_batch(data, names, "the data"),
        batch_size=batch_size,
        shuffle=check_switch("shuffle", shuffle),
        prefetch=check_switch("prefetch", prefetch),
        seed=check_integer("seed", seed, 0),
    )


def _empty() -> DataError:
    return DataError("the data loader is empty: it holds no data point; check what it was made of")
