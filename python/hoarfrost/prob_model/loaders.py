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
    if isinstance(loader, InputsLoader | TargetsLoader) or not hasattr(loader, "__iter__"):
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
    remedy = "InputsLoader.from_array_inputs(inputs, batch_size=128)"
    if isinstance(loader, DataLoader):
        remedy = "data_loader.to_inputs_loader()"
    elif not isinstance(loader, TargetsLoader) and isinstance(loader, list | tuple):
        return InputsLoader.from_iterable(loader)
    raise InvalidArgumentError(
        f"{argument} is a {type(loader).__name__}; give a hoarfrost.data.InputsLoader, such as "
        f"{remedy}"
    )
