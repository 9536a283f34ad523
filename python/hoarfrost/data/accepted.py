"""Loaders as functions accept them: the loader that is meant, or an error that says which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from hoarfrost.data.base import Loader, batches_of
from hoarfrost.data.batch import INPUTS, PAIR
from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader
from hoarfrost.data.streams import StreamBatches
from hoarfrost.errors import DataError


def as_data_loader(loader: Any, argument: str) -> DataLoader:
    """A `DataLoader`, or any iterable of (inputs, targets) that can be gone over again, as one.

    Raises
    ------
    InvalidArgumentError
        If it is a loader of inputs or targets alone, an array, or cannot be iterated.
    DataError
        If it is a one-shot iterator.
    """
    if isinstance(loader, DataLoader):
        return loader
    batches = batches_of(loader, PAIR, argument)
    assert isinstance(batches, StreamBatches)  # only loaders hold arrays
    return DataLoader(StreamBatches(_targets_as_arrays(batches.open), PAIR))


def as_inputs_loader(loader: Any, argument: str = "inputs_loader") -> InputsLoader:
    """An `InputsLoader`, or any iterable of inputs that can be gone over again, as one.

    Raises
    ------
    InvalidArgumentError
        If it holds targets too, is an array, or cannot be iterated.
    DataError
        If it is a one-shot iterator.
    """
    if isinstance(loader, InputsLoader):
        return loader
    return InputsLoader(batches_of(loader, INPUTS, argument))


def is_loader(value: Any) -> bool:
    """Whether a value is a loader of any kind."""
    return isinstance(value, Loader)


def _targets_as_arrays(
    batches: Callable[[int | None], Iterable[Any]],
) -> Callable[[int | None], Iterator[Any]]:
    """Targets that are lists of numbers as arrays."""

    def converted(epoch: int | None) -> Iterator[Any]:
        for index, batch in enumerate(batches(epoch)):
            listed = _is_pair(batch) and isinstance(batch[1], list | tuple)
            if not listed or _is_masked(batch[1]):
                yield batch
                continue
            try:
                targets = np.asarray(batch[1])
            except ValueError as error:
                raise DataError(
                    f"targets of batch {index} are a list that is no array ({error}); give an "
                    "array of shape (points,) or (points, targets)"
                ) from error
            yield batch[0], targets

    return converted


def _is_masked(targets: Any) -> bool:
    """Whether targets are a pair ``(targets, mask)`` of arrays, rather than a list of rows."""
    if not isinstance(targets, tuple) or len(targets) != 2:
        return False
    arrays = all(isinstance(part, np.ndarray | jax.Array) and part.ndim for part in targets)
    return arrays and targets[1].dtype == np.bool_


def _is_pair(batch: Any) -> bool:
    return isinstance(batch, tuple | list) and len(batch) == 2
