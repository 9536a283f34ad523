"""The jitted programs of training: one step, one pass of validation.

Everything that is the same for a whole run (network, partition, optimiser) is a static argument,
everything that has a number in it (parameters, prior, likelihood) is an array argument, and the
programs are module-level: they are compiled once for each shape of a batch, and not again for
another epoch or another run with the same static arguments. An optimiser is compared by identity,
since it is made of functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import padded
from hoarfrost.devices import ANYWHERE, Devices
from hoarfrost.errors import ShapeError
from hoarfrost.freezing import Partition
from hoarfrost.likelihood import Likelihood
from hoarfrost.likelihood.points import num_counted
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.prior import Prior, log_prior_density
from hoarfrost.training.accumulation import Gathered, Turn, gather, no_line_search, nothing_gathered
from hoarfrost.training.state import TrainState
from hoarfrost.types import Tree

Predict = Callable[[jax.Array], jax.Array]

# Rows that float32 can count.
_MOST_ROWS = 2**24


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Totals:
    """What an epoch adds up on the device, so that the host asks for it only once.

    Attributes
    ----------
    loss : jax.Array
        Mean over the points so far of the losses of their batches, shape ``()``.
    failed_step : jax.Array
        The first step that gave something not finite, -1 if there was none, shape ``()``.
    gathered : Gathered or None
        What waits for the next update; None where each batch makes its own.
    """

    loss: jax.Array
    failed_step: jax.Array
    gathered: Gathered | None = None


def no_totals(accumulated: Tree | None = None) -> Totals:
    """Totals at the start of an epoch; for gradients of these leaves, if they are accumulated."""
    return Totals(
        loss=jnp.zeros(()),
        failed_step=jnp.full((), -1, jnp.int32),
        gathered=None if accumulated is None else nothing_gathered(accumulated),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PaddedBatch:
    """One batch on its way to a program.

    Attributes
    ----------
    inputs : tree of arrays
        Examples, of which the last ones may be padding.
    targets : array
        Rows, one a position of an example.
    num_points : float
        How many rows are data points.
    weight : float
        `num_points` as a fraction of the points of this epoch so far, these included.
    counted : array of bool or None
        Which rows are data points; None: the first `num_points` of them.
    """

    inputs: Tree
    targets: Any
    num_points: Any
    weight: Any
    counted: Any = None


def padded_batch(
    batch: CheckedBatch, examples: int, points_before: int, devices: Devices = ANYWHERE
) -> PaddedBatch:
    """A batch with so many examples on its devices, the last of its own repeated as padding.

    A repeated example is one that the network can take, so that its log-likelihood, which the
    program leaves out, is finite and has a finite derivative.
    """
    each = len(batch.targets) // batch.size  # rows of an example
    inputs = padded(batch.inputs, batch.size, examples)
    targets = padded(batch.targets, len(batch.targets), examples * each)
    points, counted = num_counted(batch), None
    if batch.mask is not None or examples * each > _MOST_ROWS:
        counted = np.zeros(examples * each, np.bool_)
        counted[: len(batch.targets)] = True if batch.mask is None else batch.mask
    inputs, targets, counted = devices.split((inputs, targets, counted))
    weight = np.float32(points / (points_before + points))
    return PaddedBatch(inputs, targets, np.float32(points), weight, counted)


def train_step(
    network: Network,
    partition: Partition,
    likelihood: Likelihood,
    optimizer: optax.GradientTransformation,
    predict: Predict | None,
    moving: tuple[bool, ...],
    devices: Devices,
    state: TrainState,
    totals: Totals,
    frozen: Tree,
    prior: Prior,
    batch: PaddedBatch,
    num_data: float,
    key: jax.Array,
    turn: Turn | None = None,
) -> tuple[TrainState, Totals, Any]:
    """One step of the optimiser on the negative log joint, frozen parameters apart.

    With a `turn` the gradient is gathered, and the optimiser moves where the turn is the last of
    its update. Statistics of a network move with every batch.

    A step whose loss, gradient or new parameters are not finite leaves the state as it is, and so
    do all steps of the epoch after it: what training had reached is not lost.
    """

    def loss_of(trainable: Tree) -> tuple[jax.Array, tuple[jax.Array, Tree]]:
        params = partition.merge(trainable, frozen)
        step_key = jax.random.fold_in(key, state.step)
        outputs, mutable = network.train(params, state.mutable, batch.inputs, step_key)
        outputs = in_rows(outputs, batch)
        total = sum_log_prob(likelihood, outputs, batch)
        wide = jnp.promote_types(total.dtype, jnp.float32)
        points, own_points = jnp.asarray(num_data, wide), jnp.asarray(batch.num_points, wide)
        share = (points / own_points).astype(total.dtype)
        loss = -share * total - log_prior_density(prior, params).astype(total.dtype)
        return loss, (outputs, mutable)

    (loss, (outputs, mutable)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)

    def updated(loss: jax.Array, gradient: Tree, value_fn: Any) -> tuple[Tree, Tree]:
        updates, opt_state = optax.with_extra_args_support(optimizer).update(
            gradient,
            state.opt_state,
            state.params,
            # What line searches ask for; every other optimiser leaves it alone.
            value=loss,
            grad=gradient,
            value_fn=value_fn,
        )
        return optax.apply_updates(state.params, updates), opt_state

    gathered = None
    if totals.gathered is None or turn is None:
        params, opt_state = updated(loss, gradient, lambda trainable: loss_of(trainable)[0])
    else:
        gathered = gather(totals.gathered, loss, gradient, turn)
        params, opt_state = jax.lax.cond(
            turn.last,
            lambda: updated(*gathered.like(loss, gradient), no_line_search),
            lambda: (state.params, state.opt_state),
        )
    stepped = TrainState(
        params=params,
        frozen_params=None,
        mutable=_move_statistics(state.mutable, mutable, moving),
        opt_state=opt_state,
        step=state.step + 1,
    )
    finite = functools.reduce(
        jnp.logical_and,
        [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((loss, gradient, stepped.params))],
    )
    sound = finite & (totals.failed_step < 0)
    new_state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), stepped, state)
    new_totals = Totals(
        loss=totals.loss + (loss - totals.loss).astype(totals.loss.dtype) * batch.weight,
        failed_step=jnp.where(
            finite | (totals.failed_step >= 0), totals.failed_step, state.step
        ).astype(jnp.int32),
        gathered=gathered,
    )
    new_state, new_totals = devices.kept_whole((new_state, new_totals))
    return new_state, new_totals, None if predict is None else predict(outputs)


_STATIC = ("partition", "optimizer", "predict", "moving", "devices")
step_in_place = NetworkProgram(train_step, static=_STATIC, donate=("state", "totals"))
# A callback may keep the state that it saw, so that its buffers must not be used again.
step_apart = NetworkProgram(train_step, static=_STATIC)


def _validate(
    network: Network,
    predict: Predict | None,
    likelihood: Likelihood,
    params: Tree,
    mutable: Tree,
    batch: PaddedBatch,
) -> tuple[jax.Array, Any]:
    """Summed log-likelihood of a batch in evaluation mode, and its predictions."""
    outputs = in_rows(network.evaluate(params, mutable, batch.inputs), batch)
    total = sum_log_prob(likelihood, outputs, batch)
    return total, None if predict is None else predict(outputs)


validation_step = NetworkProgram(_validate, static=("predict",))


@jax.jit
def log_prior(prior: Prior, params: Tree) -> jax.Array:
    """Log-density of all parameters under the prior."""
    return log_prior_density(prior, params)


@functools.partial(jax.jit, static_argnames=("optimizer",))
def init_optimizer(optimizer: optax.GradientTransformation, trainable: Tree) -> Tree:
    """State of an optimiser before its first step."""
    return optimizer.init(trainable)


@functools.lru_cache(maxsize=64)
def clipped(
    optimizer: optax.GradientTransformation, max_grad_norm: float | None
) -> optax.GradientTransformation:
    """The optimiser with its gradients clipped; the same object for the same call.

    The same object, because a new one would be a new program.
    """
    if max_grad_norm is not None:
        # A norm beyond the widest dtype clips nothing, as its largest number does.
        largest = float(np.finfo(jax.dtypes.canonicalize_dtype(np.float64)).max)
        clip = optax.clip_by_global_norm(min(float(max_grad_norm), largest))
        optimizer = optax.chain(clip, optimizer)
    return optimizer


def _move_statistics(old: Tree, new: Tree, moving: tuple[bool, ...]) -> Tree:
    leaves, structure = jax.tree.flatten(old)
    chosen = zip(leaves, jax.tree.leaves(new), moving, strict=True)
    return jax.tree.unflatten(
        structure, [after if move else before for before, after, move in chosen]
    )


def in_rows(outputs: jax.Array, batch: PaddedBatch) -> jax.Array:
    """Outputs with a row for each position, as the targets have."""
    if outputs.ndim <= 2:
        return outputs
    rows = outputs.reshape(-1, outputs.shape[-1])
    if len(rows) != len(batch.targets):
        raise ShapeError(
            f"the network's outputs have shape {tuple(outputs.shape)} in training, "
            f"{len(rows)} data points, and other positions, {len(batch.targets)} data points, in "
            "evaluation mode; they must be the same in both"
        )
    return rows


def sum_log_prob(likelihood: Likelihood, outputs: jax.Array, batch: PaddedBatch) -> jax.Array:
    """Summed log-density of the points of a batch, its padding left out."""
    log_prob = likelihood.log_prob(outputs, batch.targets)
    real = batch.counted
    if real is None:
        real = jnp.arange(log_prob.shape[0], dtype=jnp.float32) < batch.num_points
    return jnp.sum(jnp.where(real, log_prob, 0))
