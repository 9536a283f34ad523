"""The stream between a data loader, the JAX passes and the core.

Batches are cut into pieces of one size, so that a program is compiled once whatever the loader
gives; the last piece is padded and its padding dropped. The pass over one piece is dispatched
before the one before it is handed on, so that JAX works while the core does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.result import PassResult, as_core_array
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import (
    DataError,
    InvalidArgumentError,
    NonFiniteError,
    ShapeError,
    StructureError,
)
from hoarfrost.likelihood import Likelihood

Tree = Any
Pass = Callable[[Tree, int], PassResult]


@dataclass(frozen=True)
class Batch:
    """One batch of a loader, checked: `index` counts from 0, `size` is its number of points."""

    index: int
    inputs: Tree
    targets: np.ndarray | None
    size: int


@dataclass(frozen=True)
class Piece:
    """What a pass gave for some points of a batch, on the host, padding dropped.

    ``outputs`` has shape ``(B, C)``, ``block`` the leading axis ``B``, ``log_prob`` shape ``(B,)``
    (None where there are no targets); each float32 or float64, C-contiguous. ``targets`` are as
    the loader gave them.
    """

    outputs: np.ndarray
    block: np.ndarray
    log_prob: np.ndarray | None
    targets: np.ndarray | None = None


def data_batches(data_loader: Any) -> Iterator[Batch]:
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
            yield Batch(index, inputs, targets, size)
    if empty:
        raise DataError("data_loader is empty: it gave no data point; give at least one batch")


def num_batches(data_loader: Any) -> int | None:
    """How many batches a loader gives, where that is known without going over the data."""
    if isinstance(data_loader, DataLoader):
        sizes = data_loader._batches.sizes
        return None if sizes is None else len(sizes)
    return len(data_loader) if isinstance(data_loader, Sized) else None


def input_batches(inputs: Tree) -> Iterator[Batch]:
    """Batches of inputs from an array, a tree of arrays, or an `InputsLoader`."""
    if isinstance(inputs, DataLoader):
        raise InvalidArgumentError(
            "inputs is a DataLoader, which gives targets too; give loader.to_inputs_loader()"
        )
    first: list[tuple[int, ...]] | None = None
    for index, batch in enumerate(
        inputs.in_order() if isinstance(inputs, InputsLoader) else [inputs]
    ):
        checked, size, first = _check_inputs(batch, index, first)
        if size:
            yield Batch(index, checked, None, size)


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


def piece_size(size: int, max_points: int) -> int:
    """Points of a piece when batches of `size` points are cut evenly into at most `max_points`."""
    pieces = -(-size // max_points)
    return -(-size // pieces)


def bucket_size(size: int, max_points: int) -> int:
    """`piece_size`, rounded up so that calls with many different sizes share a few programs.

    Up to 16 to a power of two; beyond, to four significant bits, which adds at most an eighth.
    """
    exact = piece_size(size, max_points)
    bits = (exact - 1).bit_length()
    step = 1 << (bits if exact <= 16 else bits - 4)
    return min(-(-exact // step) * step, max_points)


def cut(tree: Tree, start: int, size: int, length: int) -> Tree:
    """Rows `start` to ``start + length`` of every leaf, padded to `size` by repeating the last.

    A repeated point is one that the network can take, which zeros need not be.
    """

    def one(leaf: Any) -> Any:
        if start == 0 and length == size == leaf.shape[0]:
            return leaf
        rows = np.asarray(leaf)[start : start + length]
        if length == size:
            return rows
        return np.concatenate([rows, np.repeat(rows[-1:], size - length, axis=0)])

    return jax.tree.map(one, tree)


@functools.partial(jax.jit, static_argnames=("likelihood",))
def _log_prob_program(likelihood: Likelihood, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return likelihood.log_prob(outputs, targets)


def stream(
    run: Pass, batches: Iterable[Batch], size: int, likelihood: Likelihood | None = None
) -> Iterator[Piece]:
    """Pieces of all batches, checked, each computed while the one before is being used.

    Parameters
    ----------
    run : callable
        A `HeadPass` or `JacobianPass`.
    batches : iterable of Batch
        From `data_batches` or `input_batches`.
    size : int
        Points of a piece.
    likelihood : Likelihood, optional
        Gives the log-probability of the targets; without one it is not computed.

    Raises
    ------
    NonFiniteError
        If inputs, outputs or derivatives of a batch hold a NaN or an infinity.
    StructureError
        If the last layer's structure does not hold on a batch.
    """
    waiting: tuple[Batch, int, int, PassResult, jax.Array | None] | None = None
    for batch in batches:
        for start in range(0, batch.size, size):
            length = min(size, batch.size - start)
            result = run(cut(batch.inputs, start, size, length), length)
            log_prob = None
            if likelihood is not None:
                targets = cut(batch.targets, start, size, length)
                log_prob = _log_prob_program(likelihood, result.outputs, targets)
            if waiting is not None:
                yield _read(*waiting)
            waiting = (batch, start, length, result, log_prob)
    if waiting is not None:
        yield _read(*waiting)


def _read(
    batch: Batch, start: int, length: int, result: PassResult, log_prob: jax.Array | None
) -> Piece:
    """Wait for a pass, check what it gave, and drop the padding."""
    where = f"batch {batch.index}"
    if not result.inputs_finite:
        raise NonFiniteError(
            f"inputs of {where} hold a NaN or an infinity; remove or impute those points"
        )
    if not result.outputs_finite:
        raise NonFiniteError(
            f"the network's outputs on {where} hold a NaN or an infinity, though its inputs are "
            "finite; check the parameters and the scale of the inputs"
        )
    if not result.block_finite:
        raise NonFiniteError(
            f"the network's derivatives on {where} hold a NaN or an infinity, though its outputs "
            "are finite; check for operations without a finite derivative"
        )
    if not result.structure_holds:
        raise StructureError(
            f"{where} does not have the last-layer structure that the first batch showed: the "
            "outputs are not a plain Dense layer of the trainable leaves there (is something "
            "applied after it?); select more leaves, or move that operation before the layer"
        )
    return Piece(
        outputs=as_core_array(result.outputs)[:length],
        block=as_core_array(result.block)[:length],
        log_prob=None if log_prob is None else np.asarray(log_prob)[:length],
        targets=None if batch.targets is None else batch.targets[start : start + length],
    )
