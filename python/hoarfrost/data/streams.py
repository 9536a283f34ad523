"""Batches that come from elsewhere, one after the other, and can be gone over again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hoarfrost.data.batch import checked_batch
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
    """

    open: Callable[[int | None], Iterable[Any]]
    names: tuple[str, ...]
    sizes: tuple[int, ...] | None = None

    def epoch(self, epoch: int | None) -> Iterator[Any]:
        """Batches of an epoch; None for the order given, without shuffling."""
        for index, batch in enumerate(self.open(epoch)):
            yield checked_batch(batch, self.names, f"batch {index}")


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
        if isinstance(iterable, Iterator):
            if iterable is self._last:
                raise DataError(
                    "the function of this loader returned the iterator that it had returned "
                    f"before, a one-shot {type(iterable).__name__} that is used up; return a new "
                    "one at every call"
                )
            self._last = iterable
        count = 0
        try:
            for batch in iterable:
                count += 1
                self._batches_seen = max(self._batches_seen, count)
                yield batch
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


def reiterable(iterable: Iterable[Any]) -> Callable[[int | None], Iterator[Any]]:
    """A pass opener for an iterable that can be gone over more than once.

    Raises
    ------
    DataError
        If it is a one-shot iterator, such as a generator.
    InvalidArgumentError
        If it is no iterable at all.
    """
    if isinstance(iterable, Iterator):
        raise DataError(
            f"iterable is a one-shot {type(iterable).__name__}, which can be gone over once only, "
            "but training and the posterior each need passes of their own; give a list of batches, "
            "or the function that makes the generator to from_callable_iterable"
        )
    if not isinstance(iterable, Iterable):
        raise InvalidArgumentError(
            f"iterable must be an iterable of batches, but it is a {type(iterable).__name__}; for "
            "a function use from_callable_iterable, for arrays from_array_data"
        )
    return Reopened(lambda: iterable)
