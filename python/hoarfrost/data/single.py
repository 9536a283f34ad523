"""The loaders of inputs alone and of targets alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Self

from hoarfrost.data import operations
from hoarfrost.data.base import Loader, array_source, batches_of
from hoarfrost.data.batch import INPUTS, PAIR, TARGETS, feature_shape


class InputsLoader(Loader):
    """Batches of inputs that can be gone over any number of times.

    A batch is an array of shape ``(B, ...)`` or a tree (such as a dict) of them.

    Parameters
    ----------
    iterable : iterable of inputs
        Anything that can be gone over more than once, such as a list of batches.

    Raises
    ------
    DataError
        If `iterable` is a one-shot iterator, such as a generator.
    """

    _names: ClassVar[tuple[str, ...]] = INPUTS

    @classmethod
    def from_data_loader(cls, data_loader: Loader) -> Self:
        """The inputs of a `DataLoader`; epoch n is in the order of that loader's epoch n.

        Raises
        ------
        InvalidArgumentError
            If it is no `DataLoader`, but a loader of inputs, say.
        DataError
            While iterating: if the data loader shuffles by itself, so that inputs and targets
            taken apart do not line up.
        """
        return cls(operations.select(batches_of(data_loader, PAIR, "data_loader"), 0, INPUTS))

    @classmethod
    def from_array_inputs(
        cls,
        inputs: Any,
        batch_size: int | None = None,
        shuffle: bool = False,
        prefetch: bool = False,
        *,
        seed: int = 0,
    ) -> Self:
        """A loader over an array of inputs (or a tree of arrays), which is not copied.

        The arguments are those of `DataLoader.from_array_data`.
        """
        return cls(array_source(inputs, batch_size, shuffle, prefetch, seed, INPUTS))

    @cached_property
    def input_shape(self) -> Any:
        """Shape of one input, ``inputs.shape[1:]``; a tree of shapes where inputs are a tree."""
        return feature_shape(self._first())

    def to_array_inputs(self) -> Any:
        """All inputs as a NumPy array (or a tree of them), in the order given (never shuffled)."""
        return self._gathered()

    def to_transformed_inputs_loader(
        self, transform: Callable[[Any, Any], tuple[Any, Any]], status: Any = None
    ) -> Self:
        """A loader whose batches went through a function.

        Parameters
        ----------
        transform : callable (inputs, status) -> (inputs, status)
            Called with each batch and the status that the batch before returned; None leaves the
            batch out.
        status : object
            The first batch of each epoch gets a copy of it.
        """
        return self._like(operations.transformed(self._batches, transform, status, INPUTS))


class TargetsLoader(Loader):
    """Batches of targets that can be gone over any number of times.

    A batch is an array of shape ``(B,)`` or ``(B, C)``.

    Parameters
    ----------
    iterable : iterable of targets
        Anything that can be gone over more than once, such as a list of batches.

    Raises
    ------
    DataError
        If `iterable` is a one-shot iterator, such as a generator.
    """

    _names: ClassVar[tuple[str, ...]] = TARGETS

    @classmethod
    def from_data_loader(cls, data_loader: Loader) -> Self:
        """The targets of a `DataLoader`; epoch n is in the order of that loader's epoch n.

        Raises
        ------
        InvalidArgumentError, DataError
            As for `InputsLoader.from_data_loader`.
        """
        return cls(operations.select(batches_of(data_loader, PAIR, "data_loader"), 1, TARGETS))

    @classmethod
    def from_array_targets(
        cls,
        targets: Any,
        batch_size: int | None = None,
        shuffle: bool = False,
        prefetch: bool = False,
        *,
        seed: int = 0,
    ) -> Self:
        """A loader over an array of targets, which is not copied.

        The arguments are those of `DataLoader.from_array_data`.
        """
        return cls(array_source(targets, batch_size, shuffle, prefetch, seed, TARGETS))

    def to_array_targets(self) -> Any:
        """All targets as a NumPy array, in the order given (never shuffled)."""
        return self._gathered()

    def to_transformed_targets_loader(
        self, transform: Callable[[Any, Any], tuple[Any, Any]], status: Any = None
    ) -> Self:
        """A loader whose batches went through a function.

        Parameters
        ----------
        transform : callable (targets, status) -> (targets, status)
            Called with each batch and the status that the batch before returned; None leaves the
            batch out.
        status : object
            The first batch of each epoch gets a copy of it.
        """
        return type(self)(operations.transformed(self._batches, transform, status, TARGETS))
