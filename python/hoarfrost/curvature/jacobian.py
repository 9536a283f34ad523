"""Rows of the Jacobian, for trainable subsets without a structure to use.

With ``Lambda_n = R_n R_n^T`` the curvature is ``sum_n (R_n^T J_n)^T (R_n^T J_n)``: one
vector-Jacobian product for each column of the root, and a symmetric product in the core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from hoarfrost.curvature.result import PassResult
from hoarfrost.data.positions import examples_at_once
from hoarfrost.dtypes import all_finite, wide_dtype
from hoarfrost.freezing import Partition, Subset
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network, NetworkProgram, check_rows
from hoarfrost.types import Tree

# Bytes of the rows of one chunk: large enough for the core's panels, small beside P x P.
CHUNK_BYTES = 64 * 2**20


def rows_at(
    network: Network,
    partition: Partition,
    likelihood: Likelihood | None,
    params: Tree,
    mutable: Tree,
    positions: tuple[int, ...] = (),
) -> Callable[[Tree], tuple[jax.Array, jax.Array]]:
    """A function of one example: outputs ``(T, C)`` and rows ``(T, R, P)`` of its T positions.

    T is 1 without positions. Rows are those of the Jacobian where `likelihood` is None, else those
    times a root of its curvature.
    """
    trainable, frozen = partition.split(params)
    leaves, treedef = jax.tree.flatten(trainable)
    dtype = wide_dtype(*leaves)

    def point(example: Tree) -> tuple[jax.Array, jax.Array]:
        def outputs_of(values: list[jax.Array]) -> jax.Array:
            merged = partition.merge(jax.tree.unflatten(treedef, values), frozen)
            batch = jax.tree.map(lambda leaf: leaf[None], example)
            outputs = network.evaluate(merged, mutable, batch)
            check_rows(outputs.shape, 1, positions=positions)
            return outputs.reshape(-1, outputs.shape[-1])

        outputs, pull = jax.vjp(outputs_of, leaves)
        count, num_outputs = outputs.shape
        if likelihood is None:
            columns = jnp.eye(num_outputs, dtype=outputs.dtype)[None]
            columns = jnp.broadcast_to(columns, (count, num_outputs, num_outputs))
        else:
            root = likelihood.curvature_root(outputs)
            columns = jnp.swapaxes(root, 1, 2).astype(outputs.dtype)
        # A cotangent is a column of the root at one position and zero at all others.
        own = jnp.eye(count, dtype=outputs.dtype)[:, None, :, None]
        cotangents = own * columns[:, :, None, :]
        (tangents,) = jax.vmap(pull)(cotangents.reshape(-1, count, num_outputs))
        flat = [t.reshape(count, columns.shape[1], -1).astype(dtype) for t in tangents]
        return outputs, jnp.concatenate(flat, axis=2)

    return point


def _rows(
    network: Network,
    partition: Partition,
    likelihood: Likelihood | None,
    params: Tree,
    mutable: Tree,
    inputs: Tree,
    size: jax.Array,
    positions: tuple[int, ...] = (),
) -> PassResult:
    """Outputs and rows of one piece; rows of the examples from `size` on are zero."""
    point = rows_at(network, partition, likelihood, params, mutable, positions)
    with jax.default_matmul_precision("highest"):
        outputs, rows = jax.vmap(point)(inputs)
    real = jnp.arange(rows.shape[0]) < size
    rows = jnp.where(real[:, None, None, None], rows, jnp.zeros((), rows.dtype))
    outputs, rows = (x.reshape(-1, *x.shape[2:]) for x in (outputs, rows))
    return PassResult(
        outputs=outputs,
        block=rows,
        inputs_finite=all_finite(inputs),
        outputs_finite=all_finite(outputs),
        block_finite=all_finite(rows),
        structure_error=jnp.zeros(()),
    )


_rows_program = NetworkProgram(_rows, static=("partition", "positions"))


@dataclass(frozen=True, eq=False)
class JacobianPass:
    """The pass that gives Jacobian rows, for pieces of any batch.

    Attributes
    ----------
    subset : Subset
        The network and which of its leaves are trainable.
    likelihood : Likelihood or None
        Rows are ``R_n^T J_n`` with the root of its curvature; None: the Jacobian itself.
    num_outputs, num_params : int
        ``C`` and ``P``, which set the number of points of a chunk.
    positions : tuple of int
        Of one example, each of which is a point.
    """

    subset: Subset
    likelihood: Likelihood | None
    num_outputs: int
    num_params: int
    positions: tuple[int, ...] = ()

    @property
    def max_points(self) -> int:
        """Examples of a chunk whose rows take about `CHUNK_BYTES`."""
        itemsize: int = wide_dtype(*jax.tree.leaves(self.subset.trainable)).itemsize
        points = CHUNK_BYTES // (self.num_outputs * self.num_params * itemsize)
        return examples_at_once(points, self.positions)

    def __call__(self, inputs: Tree, size: int) -> PassResult:
        """Dispatch one piece, of which the first `size` points are real."""
        subset = self.subset
        result: PassResult = _rows_program(
            subset.network,
            subset.partition,
            self.likelihood,
            subset.params,
            subset.mutable,
            subset.devices.split(inputs),
            size,
            self.positions,
        )
        return result
