"""Batches that come from elsewhere, one after the other, and can be gone over again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hoarfrost.data.batch import PAIR, checked_batch, is_sparse, native
from hoarfrost.data.order import FixedOrder
from hoarfrost.errors import DataError, InvalidArgumentError


class Batches(Protocol):
    """A source of batches that starts afresh at each call of `epoch`."""

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """Number of points of each batch, None where only a pass over the data can tell."""

    def epoch(self, epoch: int | None) -> Iterator[Any]:
        """Batches of an epoch; None for the order given, without shuffling."""


@dataclass(frozen=True, eq=False)
class StreamBatches:
    """Batches from a function that opens a new pass, each one checked as it comes.

    Attributes
    ----------
    open : callable (epoch or None) -> iterable of batches
        Called once a pass.
    names : tuple of str
        What a batch holds: `PAIR`, `INPUTS` or `TARGETS` of `hoarfrost.data.batch`.
    sizes : tuple of int or None
        Number of points of each batch, where known.
    order : FixedOrder
        What parts of these batches that are gone over by themselves are held to.
    """

    open: Callable[[int | None], Iterable[Any]]
    names: tuple[str, ...]
    sizes: tuple[int, ...] | None = None
    order: FixedOrder = field(default_factory=FixedOrder)

    def epoch(self, epoch: int | None) -> Iterator[Any]:
        """Batches of an epoch; None for the order given, without shuffling."""
        for index, batch in enumerate(self.open(epoch)):
            yield native(checked_batch(batch, self.names, f"batch {index}"))

    def in_one_order(self, epoch: int | None) -> Iterator[Any]:
        """The same, for parts of the batches: raises `DataError` where the order has changed."""
        return self.order.follow(epoch, self.epoch(epoch), self.names)


class Reopened:
    """Opens the iterable that a function returns, and notices when it is used up.

    Parameters
    ----------
    make : callable () -> iterable of batches
        Must return an iterable that starts from the beginning at every call.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make
        self._last: Iterator[Any] | None = None
        self._batches_seen = 0

    def __call__(self, epoch: int | None) -> Iterator[Any]:
        """The batches of a new pass; `epoch` changes nothing, the order is the iterable's own."""
        iterable = self._make()
        if not isinstance(iterable, Iterable):
            raise DataError(
                f"the function of this loader must return an iterable of batches, but it returned "
                f"a value of type {type(iterable).__name__}"
            )
        if isinstance(iterable, _NO_BATCHES) or _is_array(iterable):
            raise DataError(
                f"the function of this loader must return an iterable of batches, but it returned "
                f"a {type(iterable).__name__}, which would be gone over row by row; give a list of "
                "batches"
            )
        if isinstance(iterable, Iterator):
            if iterable is self._last:
                raise DataError(
                    "the function of this loader returned the iterator that it had returned "
                    f"before, a one-shot {type(iterable).__name__} that is used up; return a new "
                    "one at every call"
                )
            self._last = iterable
        # A list holds its batches; what else there is may put the next one where the last one was.
        listed = isinstance(iterable, list | tuple)
        count = 0
        try:
            for batch in iterable:
                count += 1
                self._batches_seen = max(self._batches_seen, count)
                yield batch if listed else own(batch)
        finally:
            # `_last` keeps a generator alive, so what it holds open must be let go here.
            if isinstance(iterable, Iterator) and hasattr(iterable, "close"):
                iterable.close()
        if count == 0 and self._batches_seen > 0:
            raise DataError(
                f"a new pass over this loader's data gave no batch, where an earlier one gave "
                f"{self._batches_seen} or more: it goes over a one-shot iterable that is used up; "
                "give one that starts from the beginning each time"
            )


def own(batch: Any) -> Any:
    """The batch with copies of its NumPy arrays, which the next batch cannot overwrite."""
    if isinstance(batch, np.ndarray):
        return batch.copy()
    if isinstance(batch, dict):
        return {name: own(part) for name, part in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(map(own, batch))
    return batch


def reiterable(
    iterable: Any, names: tuple[str, ...], argument: str = "iterable"
) -> Callable[[int | None], Iterator[Any]]:
    """A pass opener for an iterable of batches that can be gone over more than once.

    Parameters
    ----------
    iterable : iterable of batches
        What a user gave.
    names : tuple of str
        What a batch holds: `PAIR`, `INPUTS` or `TARGETS` of `hoarfrost.data.batch`.
    argument : str
        Its name, for the error's text.

    Raises
    ------
    DataError
        If it is a one-shot iterator, such as a generator.
    InvalidArgumentError
        If it is no iterable of batches: an array (which would be gone over row by row), a dict, a
        text, or nothing that can be iterated.
    """
    kind = type(iterable).__name__
    if isinstance(iterable, Iterator):
        raise DataError(
            f"{argument} is a one-shot iterator ({kind}), which can be gone over once only, but "
            "training and the posterior each need passes of their own; give a list of batches, or "
            "the function that makes the iterator to from_callable_iterable"
        )
    remedy = _REMEDIES[names]
    if is_dataset(iterable):
        raise InvalidArgumentError(
            f"{argument} is a {kind}, which is gone over point by point; give "
            f"{_OF_DATASETS.get(names, remedy)}"
        )
    if not hasattr(iterable, "__iter__"):
        function = ", or a function to from_callable_iterable" if callable(iterable) else ""
        raise InvalidArgumentError(
            f"{argument} is a {kind}, which cannot be iterated; give a hoarfrost.data.{remedy}"
            f"{function}"
        )
    if isinstance(iterable, _NO_BATCHES) or _is_array(iterable):
        raise InvalidArgumentError(f"{argument} is a {kind}; give a hoarfrost.data.{remedy}")
    if names == PAIR and isinstance(iterable, tuple) and any(map(_is_array, iterable)):
        raise InvalidArgumentError(
            f"{argument} is a tuple of arrays, and not of batches; give a hoarfrost.data.{remedy}"
        )
    if _is_endless(iterable):
        raise DataError(
            f"{argument} is a {kind} without an end, but a pass over the data needs one; leave out "
            "its repeat(), or bound it (take(n))"
        )
    return Reopened(lambda: iterable)


def is_dataset(value: Any) -> bool:
    """Whether a value has the interface of Hugging Face's data sets: points with columns."""
    has = hasattr(value, "iter") and hasattr(value, "column_names")
    return has and not isinstance(value, type)


_OF_DATASETS = {
    ("inputs", "targets"): "hoarfrost.data.HuggingFaceDataLoader(dataset, batch_size=128)",
    ("inputs",): "hoarfrost.data.HuggingFaceDataLoader(dataset, batch_size=128).to_inputs_loader()",
}
_REMEDIES = {
    ("inputs", "targets"): "DataLoader, such as DataLoader.from_array_data((inputs, targets), "
    "batch_size=128)",
    ("inputs",): "InputsLoader, such as InputsLoader.from_array_inputs(inputs, batch_size=128)",
    ("targets",): "TargetsLoader, such as TargetsLoader.from_array_targets(targets)",
}


# What can be gone over, but not batch by batch; a class has the methods of its instances.
_NO_BATCHES = Mapping, str, bytes, set, frozenset, type


# More batches than anyone has: Grain gives 2^63 points divided by the size of a batch.
_NO_END = 2**40


def _is_endless(iterable: Any) -> bool:
    """Whether a source says that it repeats itself for ever, as Grain's and TensorFlow's do."""
    try:
        if hasattr(iterable, "cardinality"):
            return int(iterable.cardinality()) == -1
        return isinstance(iterable, Sized) and len(iterable) > _NO_END
    except Exception:
        return False


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") or hasattr(value, "__array__") or is_sparse(value)
