"""The one checked stream of inputs and targets: for training, curvature and prediction.

Whatever a user gives comes through here before the work: the batches of a loader fit together
(`hoarfrost.data.batch`), hold numbers that JAX can take (`hoarfrost.data.numbers`), in the byte
order of this machine. Inputs and the targets that belong to them come from one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.data.accepted import as_data_loader, as_inputs_loader, is_loader
from hoarfrost.data.batch import INPUTS, checked_batch, native, num_points
from hoarfrost.data.features import refuse_features
from hoarfrost.data.loaders import DataLoader
from hoarfrost.data.numbers import check_numbers, check_range, check_real
from hoarfrost.dtypes import first_not_finite, is_finite
from hoarfrost.errors import (
    BatchShapeError,
    DataError,
    InvalidArgumentError,
    NonFiniteError,
)
from hoarfrost.types import Tree

# Called with the targets of a batch and its index; raises where they do not fit.
CheckTargets = Callable[[np.ndarray, int], None]


@dataclass(frozen=True)
class CheckedBatch:
    """One batch of a loader, checked: `index` counts from 0, `size` is its number of examples.

    `mask` is True where a target counts; None where all do. `argument` is the loader's name, for
    the text of errors.
    """

    index: int
    inputs: Tree
    targets: Any
    size: int
    mask: np.ndarray | None = None
    argument: str = "data_loader"


def epoch_batches(
    loader: DataLoader, epoch: int, check_targets: CheckTargets, *, argument: str, again: bool
) -> Iterator[CheckedBatch]:
    """Batches of an epoch of training, their numbers checked one by one.

    With `again`, these points were gone over before: those of arrays are not looked at once more.
    Targets may be pairs ``(targets, mask)``.

    Raises
    ------
    NonFiniteError, ShapeError, InvalidArgumentError, DataError
        If a batch cannot be used; the batch and `argument`, the loader's name, are given.
    """
    refuse_features(loader, argument)
    known = again and loader.holds_arrays
    masks = _Masks()
    for index, (inputs, targets) in enumerate(_named(loader.epoch(epoch), argument)):
        where = f"batch {index} of {argument}"
        targets, mask = masks.apart(targets, where)
        if not known:
            _check_pair(inputs, targets, where)
            check_finite_inputs(inputs, index, argument)
            check_targets(np.asarray(targets), index)
        yield CheckedBatch(index, inputs, targets, len(targets), mask, argument)


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
    data_loader: Any,
    check_targets: CheckTargets | None = None,
    *,
    argument: str = "data_loader",
    one_shape: bool = True,
    masks: bool = False,
) -> Iterator[CheckedBatch]:
    """Batches of ``(inputs, targets)`` in the order given, each checked before it is handed on.

    Parameters
    ----------
    data_loader : DataLoader or iterable of (inputs, targets)
        Gone over once. The order of a loader's epochs is not moved.
    check_targets : callable, optional
        Called with the targets of each batch and its index.
    argument : str
        The loader's name, for the text of errors.
    one_shape : bool
        Whether inputs of all batches must have the same shape beyond axis 0.
    masks : bool
        Whether targets may be pairs ``(targets, mask)``.

    Raises
    ------
    InvalidArgumentError
        If it is no loader of pairs, or a batch holds something else than real numbers.
    DataError
        For a one-shot iterator, an empty loader, a batch that is no pair, inputs and targets of
        different length, or inputs that differ in shape from the first batch's; for a mask that is
        not boolean, or that only some batches have.
    """
    loader = as_data_loader(data_loader, argument)
    refuse_features(loader, argument)
    shapes = _Shapes() if one_shape else None
    apart = _Masks() if masks else None
    for index, (inputs, targets) in enumerate(_named(loader.in_order(), argument)):
        where = f"batch {index} of {argument}"
        targets, mask = (targets, None) if apart is None else apart.apart(targets, where)
        _check_pair(inputs, targets, where)
        if shapes is not None:
            shapes.check(inputs, where)
        targets = np.asarray(targets)
        if check_targets is not None:
            check_targets(targets, index)
        yield CheckedBatch(index, inputs, targets, len(targets), mask, argument)


def num_batches(data_loader: Any) -> int | None:
    """How many batches a loader gives, where that is known without going over the data."""
    if isinstance(data_loader, DataLoader):
        sizes = data_loader._batches.sizes
        return None if sizes is None else len(sizes)
    try:
        return len(data_loader) if isinstance(data_loader, Sized) else None
    except TypeError:  # torch's loader of a stream and tf.data have a length that they refuse
        return None


def input_batches(
    inputs: Any, structure: Any = None, *, argument: str = "inputs", one_shape: bool = True
) -> Iterator[CheckedBatch]:
    """Batches of inputs from an array, a tree of arrays, an `InputsLoader`, or a list of them.

    Parameters
    ----------
    inputs : array, tree of arrays, InputsLoader, or list of batches
        A list holds batches of inputs, or pairs of inputs and targets, which are left out.
    structure : jax.tree_util.PyTreeDef, optional
        Of one batch of inputs, by which a list of batches is told from inputs that are a list;
        without it nothing is a list of batches.
    argument : str
        The name of `inputs`, for the text of errors.
    one_shape : bool
        Whether all batches must have the same shape beyond axis 0.

    Raises
    ------
    InvalidArgumentError
        For a loader that does not give inputs, or inputs that are no real numbers.
    DataError, ShapeError
        If inputs cannot be used; the batch is named.
    """
    refuse_features(inputs, argument)
    if is_loader(inputs):
        batches = _named(as_inputs_loader(inputs, argument).in_order(), argument)
    else:
        listed = enumerate(_listed(inputs, structure))
        batches = (native(checked_batch(x, INPUTS, f"batch {i}")) for i, x in listed)
    shapes = _Shapes() if one_shape else None
    for index, batch in enumerate(batches):
        where = f"batch {index}" if argument == "inputs" else f"batch {index} of {argument}"
        check_numbers(batch, "inputs", where)
        if shapes is not None:
            shapes.check(batch, where)
        if num_points(batch):
            yield CheckedBatch(index, batch, None, num_points(batch))


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


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Errors of a loader begin with the name of the argument that it is."""
    try:
        yield
    except (BatchShapeError, DataError, InvalidArgumentError) as error:
        # Only what a message is all of: other classes have attributes of their own.
        if type(error) not in (BatchShapeError, DataError, InvalidArgumentError):
            raise
        raise type(error)(f"{argument}: {error}") from error


def _named(batches: Iterator[Any], argument: str) -> Iterator[Any]:
    with naming(argument):
        yield from batches


def _check_pair(inputs: Tree, targets: Any, where: str) -> None:
    """Raise unless inputs are trees of numbers, and targets one array of them.

    Whether large whole numbers will do for targets is for their likelihood to say.
    """
    if not isinstance(targets, np.ndarray | jax.Array):
        raise DataError(
            f"targets of {where} are a {type(targets).__name__}; give one array of shape "
            "(points,) or (points, targets)"
        )
    check_numbers(inputs, "inputs", where)
    check_real(targets, "targets", where)
    if targets.dtype.kind not in "iu":
        check_range(targets, "targets", where)


def _checked_mask(mask: Any, where: str) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise DataError(
            f"the mask of {where} has dtype {mask.dtype}; give targets as (targets, mask) with a "
            "boolean mask, True where a target counts: mask.astype(bool)"
        )
    return mask


def of_one_shape(batches: Iterator[CheckedBatch]) -> Iterator[CheckedBatch]:
    """The batches, of which the inputs must have the same shape beyond axis 0, as those of one.

    Raises
    ------
    DataError
        While iterating: if those of a later batch differ from the first batch's.
    """
    shapes = _Shapes()
    for batch in batches:
        shapes.check(batch.inputs, f"batch {batch.index} of {batch.argument}")
        yield batch


class _Masks:
    """Targets and their masks, which all batches have or none."""

    masked: bool | None = None

    def apart(self, targets: Any, where: str) -> tuple[Any, np.ndarray | None]:
        """Targets and mask of a batch; raises `DataError` for a wrong mask, or a missing one."""
        mask = None
        if isinstance(targets, tuple) and len(targets) == 2:
            targets, mask = targets[0], _checked_mask(targets[1], where)
        if self.masked not in (None, mask is not None):
            raise DataError(
                f"{where} comes {'without a' if self.masked else 'with a'} mask, unlike those "
                "before it; give one with every batch (of ones, where all targets count) or with "
                "none"
            )
        self.masked = mask is not None
        return targets, mask


class _Shapes:
    """The shapes beyond axis 0 that all batches share."""

    first: list[tuple[int, ...]] | None = None

    def check(self, inputs: Tree, where: str) -> None:
        """Raise `DataError` unless inputs have the shapes of those of the first batch."""
        shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(inputs)]
        if self.first is None:
            self.first = shapes
        if shapes != self.first:
            raise DataError(
                f"inputs of {where} have shape {shapes} beyond axis 0, those of batch 0 "
                f"{self.first}; all batches need the same"
            )
