"""A network at its MAP, with the pass that linearises it in its trainable parameters."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature import HeadPass, JacobianPass, find_head
from hoarfrost.curvature.layer import MAX_POINTS
from hoarfrost.curvature.result import all_finite
from hoarfrost.curvature.stream import (
    Batch,
    Piece,
    bucket_size,
    cut,
    input_batches,
    piece_size,
    stream,
)
from hoarfrost.errors import DataError, NonFiniteError, SelectionError
from hoarfrost.freezing import Partition
from hoarfrost.laplace.plan import HeadKind, MemoryPlan, make_plan
from hoarfrost.likelihood import Gaussian, Likelihood
from hoarfrost.network import Network

Tree = Any


@dataclass(frozen=True, eq=False)
class LinearisedNetwork:
    """Everything about a trained network that a posterior over some of its leaves needs.

    Attributes
    ----------
    network, partition, likelihood
        What is compiled into the passes.
    params, mutable : trees
        The full parameters and the other collections.
    num_outputs : int
        ``C``.
    head : HeadPass or None
        The last-layer pass, where the trainable leaves are a last layer.
    """

    network: Network
    partition: Partition
    likelihood: Likelihood
    params: Tree
    mutable: Tree
    num_outputs: int
    head: HeadPass | None

    @property
    def trainable(self) -> Tree:
        """The trainable tree at the MAP."""
        return self.partition.split(self.params)[0]

    @property
    def head_kind(self) -> HeadKind | None:
        """How a last layer's curvature is assembled; None for any other parameters."""
        kind = self.likelihood.head
        if self.head is None or kind == "general":
            return None
        return "gaussian" if isinstance(self.likelihood, Gaussian) else kind

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The trainable parameters in one vector, shape ``(P,)``, float64."""
        leaves = jax.tree.leaves(self.trainable)
        return np.concatenate([np.asarray(leaf).astype(np.float64).ravel() for leaf in leaves])

    def fitting_pass(self) -> HeadPass | JacobianPass:
        """The pass whose results a curvature adds up."""
        return self.head or self._jacobian(self.likelihood)

    def predicting_pass(self) -> HeadPass | JacobianPass:
        """The pass that gives outputs with layer inputs or the Jacobian itself."""
        return self.head or self._jacobian(None)

    def walk(self, inputs: Tree) -> Iterator[Piece]:
        """Outputs and layer inputs or Jacobians, piece by piece, in the order of the inputs.

        Raises
        ------
        DataError
            If there is no input.
        """
        return self.walk_batches(input_batches(inputs))

    def walk_batches(self, batches: Iterator[Batch]) -> Iterator[Piece]:
        """`walk` over batches that are checked already; their targets come along."""
        run = self.predicting_pass()
        first = next(batches, None)
        if first is None:
            raise DataError("inputs are empty: there is no point along axis 0 to predict for")
        size = bucket_size(first.size, run.max_points)
        return stream(run, _chain(first, batches), size)

    def plan(
        self, memory_budget: int | None, prior_precision: np.ndarray | None = None
    ) -> MemoryPlan:
        """The memory that each structure would take, with one prior for all or with this one."""
        if self.head is None:
            return make_plan(self.mean.size, memory_budget=memory_budget)
        layout = self.head.layout
        same_prior = True
        if prior_precision is not None:
            classes = prior_precision[layout.order()].reshape(layout.num_outputs, -1)
            same_prior = bool((classes == classes[0]).all())
        return make_plan(
            self.mean.size,
            self.head_kind,
            layout.num_outputs,
            layout.num_features,
            memory_budget,
            same_prior=same_prior,
        )

    def _jacobian(self, likelihood: Likelihood | None) -> JacobianPass:
        return JacobianPass(
            self.network,
            self.partition,
            likelihood,
            self.params,
            self.mutable,
            self.num_outputs,
            self.mean.size,
        )


def linearise(
    network: Network,
    params: Tree,
    mutable: Tree,
    partition: Partition,
    likelihood: Likelihood,
    first: Batch,
) -> LinearisedNetwork:
    """Check a network against its likelihood and the first batch, and find its structure.

    Raises
    ------
    NonFiniteError
        If a parameter is a NaN or an infinity (its path is named).
    ShapeError
        If the outputs do not fit the likelihood.
    SelectionError
        If there is no number to train.
    """
    # On the device once, not once for every piece.
    params, mutable = jax.tree.map(jnp.asarray, (params, mutable))
    _check_finite(params, "parameter")
    _check_finite(mutable, "variable")
    if not any(leaf.size for leaf in jax.tree.leaves(partition.split(params)[0])):
        raise SelectionError(
            "the trainable parameters hold no number: all of them have an axis of length 0"
        )
    # From shapes alone; traced once for each shape, never run.
    shape = tuple(_evaluate.eval_shape(network, params, mutable, first.inputs).shape)  # type: ignore[no-untyped-call]
    likelihood.check_outputs(shape)
    if first.targets is not None:
        likelihood.check_targets(first.targets, shape[1], first.index)
    # The structure is looked for on the piece that the first pass will go over anyway, so that the
    # search and the pass are one program.
    size = piece_size(first.size, MAX_POINTS)
    inputs = cut(first.inputs, 0, size, min(size, first.size))
    head = None
    if likelihood.head != "general":  # the core has a form for every other curvature
        head = find_head(network, partition, params, mutable, inputs, (size, *shape[1:]))
    return LinearisedNetwork(network, partition, likelihood, params, mutable, shape[1], head)


@functools.partial(jax.jit, static_argnames="network")
def _evaluate(network: Network, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
    return network.evaluate(params, mutable, inputs)


def _check_finite(tree: Tree, kind: str) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not _is_finite(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise NonFiniteError(
                f"the {kind} {name!r} holds a NaN or an infinity; train again with a smaller step, "
                "or load other parameters"
            )


def _is_finite(leaf: jax.Array) -> bool:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return True
    if all(device.platform == "cpu" for device in leaf.devices()):
        # A program for it would cost more to compile than the check itself.
        return bool(np.isfinite(np.asarray(leaf)).all())
    return bool(_all_finite(leaf))


_all_finite = jax.jit(all_finite)


def _chain(first: Batch, rest: Iterator[Batch]) -> Iterator[Batch]:
    yield first
    yield from rest
