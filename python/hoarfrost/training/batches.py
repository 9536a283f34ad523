"""Batches on the host: checked before they are used, and padded to one shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data import DataLoader
from hoarfrost.errors import NonFiniteError, ShapeError
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.training.step import Batch, outputs_of

Tree = Any


def checked_batches(
    loader: DataLoader, epoch: int, likelihood: Likelihood, num_outputs: int, *, argument: str
) -> Iterator[tuple[Tree, Any, int]]:
    """Inputs, targets and number of points of each batch of an epoch, checked one by one.

    Raises
    ------
    NonFiniteError, ShapeError, InvalidArgumentError
        If a batch cannot be used; the batch and `argument`, the loader's name, are given.
    """
    for index, (inputs, targets) in enumerate(loader.epoch(epoch)):
        check_finite_inputs(inputs, index, argument)
        host_targets = np.asarray(targets)
        likelihood.check_targets(host_targets, num_outputs, index)
        size = host_targets.shape[0]
        if size:
            yield inputs, targets, size


def check_finite_inputs(inputs: Tree, index: int, argument: str) -> None:
    """Raise `NonFiniteError` that names the batch if an input is NaN or infinite."""
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(inputs)[0]:
        array = np.asarray(leaf)
        if not jnp.issubdtype(array.dtype, np.inexact) or _finite(array):
            continue
        wide = array.astype(np.float64) if array.dtype.kind == "V" else array
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(wide))[0])
        raise NonFiniteError(
            f"inputs{jax.tree_util.keystr(key_path)} of batch {index} of {argument} hold "
            f"{array[first]} at index {first}; remove or impute such points before fitting"
        )


def check_finite_params(params: Tree) -> None:
    """Raise `NonFiniteError` that names the leaf if a parameter is NaN or infinite."""
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not bool(jnp.all(jnp.isfinite(leaf))):
            raise NonFiniteError(
                f"the parameter {jax.tree_util.keystr(key_path, simple=True, separator='/')} "
                "holds a NaN or an infinity; start from finite parameters"
            )


def padded(inputs: Tree, targets: Any, size: int, to: int, points_before: int) -> Batch:
    """A batch of `size` points with `to` rows, the last of them repeated as padding.

    A repeated point is one that the network can take, so that its log-likelihood, which the
    program leaves out, is finite and has a finite derivative.
    """
    if to > size:
        rows = np.minimum(np.arange(to), size - 1)
        inputs, targets = jax.tree.map(lambda x: np.asarray(x)[rows], (inputs, targets))
    weight = np.float32(size / (points_before + size))
    return Batch(inputs, targets, np.float32(size), weight)


def check_first_batch(
    network: Network,
    params: Tree,
    mutable: Tree,
    likelihood: Likelihood,
    loader: DataLoader,
    *,
    argument: str,
) -> int:
    """The number of outputs, after checking that the first batch can be used; computes nothing."""
    inputs, targets = next(iter(loader.epoch(0)))
    check_finite_inputs(inputs, 0, argument)
    targets = np.asarray(targets)
    outputs = outputs_of.eval_shape(  # type: ignore[no-untyped-call]
        network, params, mutable, inputs
    )
    shape: tuple[int, ...] = tuple(outputs.shape)
    likelihood.check_outputs(shape)
    if shape[0] != targets.shape[0]:
        raise ShapeError(
            f"the network's outputs have shape {shape} for a batch of {targets.shape[0]} points; "
            "the first axis must run over the points"
        )
    likelihood.check_targets(targets, shape[1], 0)
    return shape[1]


def _finite(array: np.ndarray) -> bool:
    # A sum is several times as fast as looking at each number, and finite only if all of them
    # are; where it is not it may just have overflowed.
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f" and np.isfinite(np.sum(array)):
            return True
    return bool(
        np.isfinite(array.astype(np.complex128 if array.dtype.kind == "c" else float)).all()
    )
