"""Loaders as the front accepts them: the loader that is meant, or an error that says which."""

from __future__ import annotations

from typing import Any

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import InvalidArgumentError


def as_data_loader(loader: Any, argument: str) -> DataLoader:
    """A `DataLoader`, or any iterable of (inputs, targets) that can be gone over again, as one.

    Raises
    ------
    InvalidArgumentError
        If it is a loader of inputs or targets alone, or cannot be iterated.
    DataError
        If it is a one-shot iterator.
    """
    if isinstance(loader, DataLoader):
        return loader
    alone = isinstance(loader, InputsLoader | TargetsLoader)
    if alone or hasattr(loader, "shape") or isinstance(loader, dict | str) or not _iterable(loader):
        raise InvalidArgumentError(
            f"{argument} is a {type(loader).__name__}; give a hoarfrost.data.DataLoader, such as "
            "DataLoader.from_array_data((inputs, targets), batch_size=128)"
        )
    return DataLoader.from_iterable(loader)


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
    pairs = isinstance(loader, DataLoader | TargetsLoader)
    # An array would be gone over point by point, a dict key by key: neither is meant.
    if pairs or hasattr(loader, "shape") or isinstance(loader, dict | str) or not _iterable(loader):
        remedy = (
            "data_loader.to_inputs_loader()"
            if isinstance(loader, DataLoader)
            else "InputsLoader.from_array_inputs(inputs, batch_size=128)"
        )
        raise InvalidArgumentError(
            f"{argument} is a {type(loader).__name__}; give a hoarfrost.data.InputsLoader, such "
            f"as {remedy}"
        )
    return InputsLoader.from_iterable(loader)


def _iterable(loader: Any) -> bool:
    # A class has the methods of its instances, and goes over nothing.
    return hasattr(loader, "__iter__") and not isinstance(loader, type | bytes | set | frozenset)
