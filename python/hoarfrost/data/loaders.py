"""The loader of pairs: inputs with their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import jax
import numpy as np

from hoarfrost.checks import check_integer, is_choice, shown
from hoarfrost.data import operations
from hoarfrost.data.base import Loader, array_source, batches_of
from hoarfrost.data.batch import INPUTS, PAIR, TARGETS, feature_shape
from hoarfrost.data.single import InputsLoader, TargetsLoader
from hoarfrost.data.streams import Batches, StreamBatches, reiterable
from hoarfrost.dtypes import is_real
from hoarfrost.errors import DataError, InvalidArgumentError


class DataLoader(Loader):
    """Batches (inputs, targets) that can be gone over any number of times.

    Inputs are an array of shape ``(B, ...)`` or a tree (such as a dict) of them, targets an array
    of shape ``(B,)`` or ``(B, C)``, or ``(B, T)`` and ``(B, T, C)`` for outputs with positions; or
    a pair (targets, mask), the mask True where a target counts. Batches come as they were given,
    NumPy or JAX arrays.

    Parameters
    ----------
    iterable : iterable of (inputs, targets)
        Anything that can be gone over more than once, such as a list of batches.
    num_unique_labels : int, optional
        Number of distinct target labels, where it is known; else it is counted when asked for.

    Raises
    ------
    DataError
        If `iterable` is a one-shot iterator, such as a generator. While iterating: if inputs and
        targets of a batch differ in length, or there is no data point at all.

    Examples
    --------
    >>> import numpy as np
    >>> from hoarfrost.data import DataLoader
    >>> loader = DataLoader.from_array_data((np.zeros((5, 2)), np.arange(5)), batch_size=2)
    >>> [targets.tolist() for _, targets in loader]
    [[0, 1], [2, 3], [4]]
    """

    _names: ClassVar[tuple[str, ...]] = PAIR

    def __init__(
        self,
        iterable: Iterable[tuple[Any, Any]] | Batches,
        num_unique_labels: int | None = None,
    ) -> None:
        super().__init__(iterable)
        if num_unique_labels is not None:
            num_unique_labels = check_integer("num_unique_labels", num_unique_labels)
        self._num_unique_labels = num_unique_labels

    @classmethod
    def from_array_data(
        cls,
        data: tuple[Any, Any],
        batch_size: int | None = None,
        shuffle: bool = False,
        prefetch: bool = False,
        *,
        seed: int = 0,
    ) -> Self:
        """A loader over arrays, which are kept as they are and not copied.

        Parameters
        ----------
        data : (inputs, targets)
            Arrays with the data points along their first axis; inputs may be a tree of arrays.
        batch_size : int, optional
            Points in a batch; the last batch holds what remains. None: one batch with all points.
        shuffle : bool
            Whether each epoch goes through the points in a new order.
        prefetch : bool
            Whether a background thread gathers the next batches.
        seed : int
            Seed of the orders: that of epoch n is a function of (seed, n).

        Raises
        ------
        DataError
            If inputs and targets differ in length, or are not arrays.
        InvalidArgumentError
            If `batch_size` is not a positive integer.
        """
        return cls(array_source(data, batch_size, shuffle, prefetch, seed, PAIR))

    @classmethod
    def from_tensorflow_data_loader(cls, tf_data_loader: Iterable[Any]) -> Self:
        """A loader over a TensorFlow data set that gives tuples (inputs, targets) of tensors.

        Each tensor is turned into a NumPy array as its batch comes.
        """
        return cls(StreamBatches(reiterable(tf_data_loader, PAIR, "tf_data_loader"), PAIR))

    @classmethod
    def from_torch_data_loader(cls, torch_data_loader: Iterable[Any]) -> Self:
        """A loader over a PyTorch data loader that gives pairs (inputs, targets) of tensors.

        Each tensor is turned into a NumPy array as its batch comes (bfloat16 into ml_dtypes'
        bfloat16; one that requires gradients gives its values). It may shuffle by itself:
        inputs and targets that belong together are taken from one pass. Only where they are taken
        apart (`to_inputs_loader`, `to_targets_loader`), or the loader is split, a pass in another
        order than the one before raises `DataError`.
        """
        return cls(StreamBatches(reiterable(torch_data_loader, PAIR, "torch_data_loader"), PAIR))

    @classmethod
    def from_inputs_loaders(
        cls,
        inputs_loaders: Sequence[InputsLoader],
        targets: Sequence[int],
        how: str = "interpose",
    ) -> Self:
        """A loader that gives every point of the i-th loader of inputs the i-th target.

        Parameters
        ----------
        inputs_loaders : sequence of InputsLoader
            Where the inputs come from.
        targets : sequence of int
            One target for each loader.
        how : {"interpose", "concatenate"}
            The i-th batches of all loaders joined into one, as long as any of them has one; or one
            loader after the other.

        Raises
        ------
        InvalidArgumentError
            If `how` is neither, or a loader or a target is none.
        DataError
            If there are not as many targets as loaders. While iterating: if batches that are to
            be joined hold inputs of different shapes.
        """
        if not is_choice(how, ("interpose", "concatenate")):
            raise InvalidArgumentError(
                f"how must be 'interpose' or 'concatenate', but it is {shown(how)}"
            )
        _check_sequence("inputs_loaders", inputs_loaders)
        _check_sequence("targets", targets)
        if not len(inputs_loaders) or len(inputs_loaders) != len(targets):
            raise DataError(
                f"inputs_loaders and targets must have the same length, at least 1, but they have "
                f"{len(inputs_loaders)} and {len(targets)}"
            )
        sources = [
            batches_of(loader, INPUTS, f"inputs_loaders[{i}]")
            for i, loader in enumerate(inputs_loaders)
        ]
        scalars = all(np.ndim(target) == 0 for target in targets)
        values = np.asarray(targets) if scalars else None
        if values is None or not is_real(values.dtype):
            raise InvalidArgumentError(
                f"targets are {targets!r}; give one number for each of inputs_loaders"
            )
        batches = operations.labelled(sources, values, how, PAIR)
        return cls(batches, num_unique_labels=len(np.unique(values)))

    @cached_property
    def num_unique_labels(self) -> int:
        """Number of distinct values among the targets; counted once, then remembered."""
        if self._num_unique_labels is not None:
            return self._num_unique_labels
        leaves = (jax.tree.leaves(targets) for _, targets in self.in_order())
        distinct = [np.unique(np.asarray(leaf)) for batch in leaves for leaf in batch]
        return len(np.unique(np.concatenate(distinct)))

    @cached_property
    def input_shape(self) -> Any:
        """Shape of one input, ``inputs.shape[1:]``; a tree of shapes where inputs are a tree."""
        return feature_shape(self._first()[0])

    def to_array_data(self) -> tuple[Any, Any]:
        """All inputs and all targets as NumPy arrays, in the order given (never shuffled)."""
        return self._gathered()

    def to_array_inputs(self) -> Any:
        """All inputs as a NumPy array (or a tree of them), in the order given."""
        return self.to_inputs_loader().to_array_inputs()

    def to_array_targets(self) -> Any:
        """All targets as a NumPy array, in the order given."""
        return self.to_targets_loader().to_array_targets()

    def to_inputs_loader(self) -> InputsLoader:
        """A loader of the inputs alone.

        Its epoch n is in the order of this loader's epoch n, so that inputs and targets of the
        same epoch line up, shuffled or not. Predictions made with it are in the order given, as
        ``to_array_targets()`` is.
        """
        return InputsLoader(operations.select(self._batches, 0, INPUTS))

    def to_targets_loader(self) -> TargetsLoader:
        """A loader of the targets alone; epoch n is in the order of this loader's epoch n."""
        return TargetsLoader(operations.select(self._batches, 1, TARGETS))

    def to_transformed_data_loader(
        self, transform: Callable[[Any, Any, Any], tuple[Any, Any, Any]], status: Any = None
    ) -> Self:
        """A loader whose batches went through a function.

        Parameters
        ----------
        transform : callable (inputs, targets, status) -> (inputs, targets, status)
            Called with each batch and the status that the batch before returned; None leaves the
            batch out.
        status : object
            The first batch of each epoch gets a copy of it.
        """
        return self._like(operations.transformed(self._batches, transform, status, PAIR))


def _check_sequence(name: str, value: Any) -> None:
    scalar = np.ndim(value) == 0 if isinstance(value, np.ndarray) else not hasattr(value, "__len__")
    if scalar or isinstance(value, str | bytes | Mapping | Loader):
        raise InvalidArgumentError(
            f"{name} is a {type(value).__name__}; give a list, with one entry for each loader"
        )
