"""The one checked stream of inputs and targets: for training, curvature and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.single import InputsLoader
from hoarfrost.dtypes import first_not_finite, is_finite
from hoarfrost.errors import DataError, InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.types import Tree

# Called with the targets of a batch and its index; raises where they do not fit.
CheckTargets = Callable[[np.ndarray, int], None]


@dataclass(frozen=True)
class CheckedBatch:
    """One batch of a loader, checked: `index` counts from 0, `size` is its number of points."""

    index: int
    inputs: Tree
    targets: Any
    size: int


def epoch_batches(
    loader: DataLoader, epoch: int, check_targets: CheckTargets, *, argument: str, again: bool
) -> Iterator[CheckedBatch]:
    """Batches of an epoch of training, their numbers checked one by one.

    With `again`, these points were gone over before: those of arrays are not looked at once more.

    Raises
    ------
    NonFiniteError, ShapeError, InvalidArgumentError
        If a batch cannot be used; the batch and `argument`, the loader's name, are given.
    """
    for index, (inputs, targets) in enumerate(loader.epoch(epoch)):
        size = len(targets)
        if not (again and loader.holds_arrays):
            check_finite_inputs(inputs, index, argument)
            check_targets(np.asarray(targets), index)
        if size:
            yield CheckedBatch(index, inputs, targets, size)


def check_finite_inputs(inputs: Tree, index: int, argument: str) -> None:
    """Raise `NonFiniteError` that names the batch if an input is NaN or infinite."""
    if is_finite(inputs):
        return
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(inputs)[0]:
        if is_finite(leaf):
            continue
        array = np.asarray(leaf)
        first = first_not_finite(array)
        raise NonFiniteError(
            f"inputs{jax.tree_util.keystr(key_path)} of batch {index} of {argument} hold "
            f"{array[first]} at index {first}; remove or impute such points before fitting"
        )


def data_batches(
    data_loader: Any, check_targets: CheckTargets | None = None
) -> Iterator[CheckedBatch]:
    """Batches of ``(inputs, targets)``, each checked before it is handed on.

    Raises
    ------
    DataError
        For a one-shot iterator, an empty loader, a batch that is no pair, inputs and targets of
        different length, or inputs that differ in shape from the first batch's.
    """
    first: list[tuple[int, ...]] | None = None
    empty = True
    for index, batch in enumerate(_iterate(data_loader)):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(
                f"batch {index} of data_loader is a {type(batch).__name__}"
                f"{f' of {len(batch)}' if isinstance(batch, tuple | list) else ''}; "
                "every batch must be a pair (inputs, targets)"
            )
        inputs, size, first = _check_inputs(batch[0], index, first)
        targets = np.asarray(batch[1])
        if targets.ndim == 0 or len(targets) != size:
            length = len(targets) if targets.ndim else "no"
            raise DataError(
                f"batch {index} of data_loader has {size} inputs and {length} targets; "
                "both need the same number of points"
            )
        if size:
            empty = False
            if check_targets is not None:
                check_targets(targets, index)
            yield CheckedBatch(index, inputs, targets, size)
    if empty:
        raise DataError("data_loader is empty: it gave no data point; give at least one batch")


def num_batches(data_loader: Any) -> int | None:
    """How many batches a loader gives, where that is known without going over the data."""
    if isinstance(data_loader, DataLoader):
        sizes = data_loader._batches.sizes
        return None if sizes is None else len(sizes)
    return len(data_loader) if isinstance(data_loader, Sized) else None


def input_batches(inputs: Any, structure: Any = None) -> Iterator[CheckedBatch]:
    """Batches of inputs from an array, a tree of arrays, an `InputsLoader`, or a list of them.

    Parameters
    ----------
    inputs : array, tree of arrays, InputsLoader, or list of batches
        A list holds batches of inputs, or pairs of inputs and targets, which are left out.
    structure : jax.tree_util.PyTreeDef, optional
        Of one batch of inputs, by which a list of batches is told from inputs that are a list;
        without it nothing is a list of batches.

    Raises
    ------
    InvalidArgumentError
        For a `DataLoader`.
    DataError, ShapeError
        If inputs cannot be used; the batch is named.
    """
    if isinstance(inputs, DataLoader):
        raise InvalidArgumentError(
            "inputs is a DataLoader, which gives targets too; give loader.to_inputs_loader()"
        )
    batches = inputs.in_order() if isinstance(inputs, InputsLoader) else _listed(inputs, structure)
    first: list[tuple[int, ...]] | None = None
    for index, batch in enumerate(batches):
        checked, size, first = _check_inputs(batch, index, first)
        if size:
            yield CheckedBatch(index, checked, None, size)


def _listed(inputs: Any, structure: Any) -> list[Any]:
    """The batches of a list, or what is given as the only one."""
    if structure is None or not isinstance(inputs, list) or not inputs:
        return [inputs]
    if jax.tree.structure(inputs) == structure:
        return [inputs]
    if all(jax.tree.structure(batch) == structure for batch in inputs):
        return inputs
    pairs = all(isinstance(batch, tuple | list) and len(batch) == 2 for batch in inputs)
    if pairs and all(jax.tree.structure(batch[0]) == structure for batch in inputs):
        return [batch[0] for batch in inputs]
    return [inputs]


def _iterate(data_loader: Any) -> Iterator[Any]:
    """The loader's batches, in the same order at every call where the loader can tell."""
    if isinstance(data_loader, DataLoader):
        # The sum over the data needs no shuffling, and a fit must not move the training's order.
        return data_loader.in_order()
    if not isinstance(data_loader, Iterable):
        raise InvalidArgumentError(
            f"data_loader is a {type(data_loader).__name__}, which cannot be iterated; give a "
            "hoarfrost.data.DataLoader or any re-iterable of (inputs, targets) batches"
        )
    iterator = iter(data_loader)
    if iterator is data_loader:
        raise DataError(
            f"data_loader is a one-shot iterator ({type(data_loader).__name__}), used up after one "
            "pass; give something that can be iterated again: a hoarfrost.data.DataLoader, a list "
            "of batches, or an object whose __iter__ starts anew"
        )
    return iterator


def _check_inputs(
    inputs: Tree, index: int, first: list[tuple[int, ...]] | None
) -> tuple[Tree, int, list[tuple[int, ...]]]:
    """The inputs as arrays, their length, and the shapes beyond axis 0 that all batches share."""
    inputs = jax.tree.map(
        lambda x: x if isinstance(x, np.ndarray | jax.Array) else np.asarray(x), inputs
    )
    leaves = jax.tree.leaves(inputs)
    if not leaves:
        raise DataError(f"inputs of batch {index} hold no array")
    for leaf in leaves:
        if leaf.ndim == 0:
            raise ShapeError(
                f"inputs of batch {index} hold a scalar; axis 0 must run over the points (a list "
                "is a tree of its elements: give np.asarray(...) of it)"
            )
        real = jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_
        if not real or jnp.issubdtype(leaf.dtype, np.complexfloating):
            raise InvalidArgumentError(
                f"inputs of batch {index} have dtype {leaf.dtype}; give real numbers"
            )
    sizes = {leaf.shape[0] for leaf in leaves}
    if len(sizes) > 1:
        raise ShapeError(
            f"inputs of batch {index} have arrays of different length {sorted(sizes)} along axis 0"
        )
    shapes = [leaf.shape[1:] for leaf in leaves]
    if first is not None and shapes != first:
        raise DataError(
            f"inputs of batch {index} have shape {shapes} beyond axis 0, those of batch 0 {first}; "
            "all batches need the same"
        )
    return inputs, sizes.pop(), shapes
