"""The stream between checked batches, the JAX passes and the core.

Batches are cut into pieces of one size; the last piece is padded and its padding dropped. The pass
over one piece is dispatched before the one before it is handed on, so that JAX works while the core
does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.curvature.result import PassResult
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import cut
from hoarfrost.dtypes import as_core_array
from hoarfrost.errors import NonFiniteError, StructureError
from hoarfrost.likelihood import Likelihood, density_precision, exact_log_prob
from hoarfrost.types import Tree

# Times what rounding explains: the first batch showed the structure at 1, and chance may add to it.
_LATER = 2.0

Pass = Callable[[Tree, int], PassResult]


@dataclass(frozen=True)
class Piece:
    """What a pass gave for some points of a batch, on the host, padding dropped.

    ``outputs`` has shape ``(B, C)``, ``block`` the leading axis ``B``, ``log_prob`` shape ``(B,)``
    (None where there are no targets); each float32 or float64, C-contiguous. ``targets`` are as
    the loader gave them. Of an example with positions, each that its mask leaves is a point.
    ``batch`` is the index of its batch, ``index`` how many pieces were cut before it.
    """

    outputs: np.ndarray
    block: np.ndarray
    log_prob: np.ndarray | None
    targets: np.ndarray | None = None
    batch: int = 0
    index: int = 0


@jax.jit
def _log_prob_program(likelihood: Likelihood, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return exact_log_prob(likelihood, outputs, targets)


def stream(
    run: Pass,
    batches: Iterable[CheckedBatch],
    size: int,
    likelihood: Likelihood | None = None,
    skip: int = 0,
    pieces_before: int = 0,
) -> Iterator[Piece]:
    """Pieces of all batches, checked, each computed while the one before is being used.

    Parameters
    ----------
    run : callable
        A `HeadPass` or `JacobianPass`.
    batches : iterable of CheckedBatch
        From `data_batches` or `input_batches`.
    size : int
        Examples of a piece.
    likelihood : Likelihood, optional
        Gives the log-probability of the targets; without one it is not computed.
    skip : int
        Pieces at the start of all data that are passed over.
    pieces_before : int
        How many came before these batches.

    Raises
    ------
    NonFiniteError
        If inputs, outputs or derivatives of a batch hold a NaN or an infinity.
    StructureError
        If the last layer's structure does not hold on a batch.
    """
    waiting: tuple[CheckedBatch, int, int, PassResult, jax.Array | None, int] | None = None
    index = pieces_before - 1
    for batch in batches:
        for start in range(0, batch.size, size):
            index += 1
            if index < skip:
                continue
            length = min(size, batch.size - start)
            result = run(cut(batch.inputs, start, size, length), length)
            each = result.outputs.shape[0] // size  # rows of an example
            log_prob = None
            if likelihood is not None:
                targets = cut(batch.targets, start * each, size * each, length * each)
                with density_precision(likelihood):
                    log_prob = _log_prob_program(likelihood, result.outputs, targets)
            if waiting is not None:
                yield from _read(*waiting)
            waiting = (batch, start * each, length * each, result, log_prob, index)
    if waiting is not None:
        yield from _read(*waiting)


def _read(
    batch: CheckedBatch,
    start: int,
    length: int,
    result: PassResult,
    log_prob: jax.Array | None,
    index: int,
) -> Iterator[Piece]:
    """Wait for a pass, check what it gave, and drop the padding and the rows that do not count.

    A piece of which no row counts is none.
    """
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
    if not result.structure_error <= _LATER:
        raise StructureError(
            f"{where} does not have the last-layer structure that the first batch showed: the "
            "outputs are not a plain Dense layer of the trainable leaves there (is something "
            "applied after it?); select more leaves, or move that operation before the layer"
        )
    rows = slice(start, start + length)
    parts: tuple[Any, ...] = (
        as_core_array(result.outputs)[:length],
        as_core_array(result.block)[:length],
        None if log_prob is None else np.asarray(log_prob)[:length],
        None if batch.targets is None else batch.targets[rows],
    )
    if batch.mask is not None and not batch.mask[rows].all():
        counted = batch.mask[rows]
        if not counted.any():
            return
        parts = tuple(None if part is None else part[counted] for part in parts)
    outputs, block, densities, targets = parts
    yield Piece(outputs, block, densities, targets, batch.index, index)
