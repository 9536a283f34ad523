"""The density that every method approximates, and how it is estimated from a batch.

The log joint density of the trainable parameters, the frozen ones given: with N data points of
which a batch holds B,

    log p(D, theta) ~ (N / B) sum_b log p(y_b | f(theta, x_b)) + log p(theta).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.freezing import Partition
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.predictive.weight_samples import with_own
from hoarfrost.prior import Prior, log_prior_density
from hoarfrost.training.step import PaddedBatch, in_rows, sum_log_prob
from hoarfrost.types import Tree, pytree

# (trainable, frozen, partition) -> log-density, a scalar; a pytree.
LogPrior = Callable[[Tree, Tree, Partition], jax.Array]


@pytree
@dataclass(frozen=True)
class GaussianPrior:
    """A Gaussian over the trainable parameters.

    Attributes
    ----------
    mean, precision : tree of arrays
        Like the trainable tree; a leaf is a number, or an array of the parameter's shape.
    """

    mean: Tree
    precision: Tree

    def __call__(self, trainable: Tree, frozen: Tree, partition: Partition) -> jax.Array:
        """Log-density, constants included."""
        parts = jax.tree.map(_log_density, trainable, self.mean, self.precision)
        return sum(jax.tree.leaves(parts), jnp.zeros(()))

    def divergence(self, mean: Tree, std: Tree) -> jax.Array:
        """``KL(q || p)`` of a Gaussian q with a diagonal covariance."""
        parts = jax.tree.map(_divergence, mean, std, self.mean, self.precision)
        return sum(jax.tree.leaves(parts), jnp.zeros(()))


@pytree
@dataclass(frozen=True)
class WholePrior:
    """A prior of a user's over all parameters, the frozen ones too."""

    prior: Prior

    def __call__(self, trainable: Tree, frozen: Tree, partition: Partition) -> jax.Array:
        """Log-density of all parameters."""
        return log_prior_density(self.prior, partition.merge(trainable, frozen))


@dataclass(frozen=True)
class Kind:
    """What of a target is compiled into a program.

    Attributes
    ----------
    partition : Partition
        Which parameters are trainable.
    trains : bool
        Whether the network runs in training mode.
    moving : tuple of bool
        Which leaves of the other collections a step moves.
    """

    partition: Partition
    trains: bool
    moving: tuple[bool, ...]


@pytree
@dataclass(frozen=True)
class Given:
    """What of a target is an argument of a program, once for all chains and members.

    Attributes
    ----------
    frozen, mutable : tree of arrays
        The frozen parameters, and the other collections as they were given.
    prior : LogPrior
        Of the trainable parameters.
    likelihood : Likelihood
        Of targets.
    num_data : jax.Array
        N, shape ``()``.
    """

    frozen: Tree
    mutable: Tree
    prior: Any
    likelihood: Likelihood
    num_data: Any


def moving_leaves(mutable: Tree, moving: tuple[bool, ...]) -> tuple[jax.Array, ...]:
    """The leaves of the other collections that a step moves: what each chain has of its own."""
    leaves = jax.tree.leaves(mutable)
    return tuple(leaf for leaf, move in zip(leaves, moving, strict=True) if move)


@dataclass(frozen=True, eq=False)
class BatchTarget:
    """The target as a batch estimates it, within a program."""

    network: Network
    kind: Kind
    given: Given
    batch: PaddedBatch

    def outputs(
        self, trainable: Tree, statistics: tuple[jax.Array, ...], key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Outputs, in the mode of the target, and the statistics after it."""
        params = self.kind.partition.merge(trainable, self.given.frozen)
        moving, inputs = self.kind.moving, self.batch.inputs
        mutable = with_own(self.given.mutable, moving, statistics)
        if not self.kind.trains:
            return self.network.evaluate(params, mutable, inputs), statistics
        outputs, after = self.network.train(params, mutable, inputs, key)
        return outputs, moving_leaves(after, moving)

    def log_likelihood(self, outputs: jax.Array) -> jax.Array:
        """``(N / B) sum_b log p(y_b | f_b)``, at least in float32."""
        given, batch = self.given, self.batch
        total = sum_log_prob(given.likelihood, in_rows(outputs, batch), batch)
        wide = total.astype(jnp.promote_types(total.dtype, jnp.float32))
        share = jnp.asarray(given.num_data, wide.dtype) / jnp.asarray(batch.num_points, wide.dtype)
        return share * wide

    def log_prior(self, trainable: Tree) -> jax.Array:
        """Log-density of the trainable parameters under the prior."""
        density: jax.Array = self.given.prior(trainable, self.given.frozen, self.kind.partition)
        return density

    def log_joint(
        self, trainable: Tree, statistics: tuple[jax.Array, ...], key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """The log joint density, and the statistics after the batch."""
        outputs, moved = self.outputs(trainable, statistics, key)
        density = self.log_likelihood(outputs)
        return density + self.log_prior(trainable).astype(density.dtype), moved


def _log_density(value: Any, mean: Any, precision: Any) -> jax.Array:
    wide = jnp.promote_types(value.dtype, jnp.float32)
    precision = jnp.asarray(precision, wide)
    squares = precision * (value.astype(wide) - jnp.asarray(mean, wide)) ** 2
    logs = jnp.broadcast_to(jnp.log(precision), value.shape)
    return 0.5 * (jnp.sum(logs - squares) - value.size * np.log(2 * np.pi))


def _divergence(mean: Any, std: Any, centre: Any, precision: Any) -> jax.Array:
    wide = jnp.promote_types(mean.dtype, jnp.float32)
    mean, std, precision = mean.astype(wide), std.astype(wide), jnp.asarray(precision, wide)
    scaled = precision * (std**2 + (mean - jnp.asarray(centre, wide)) ** 2)
    logs = jnp.log(precision) + 2 * jnp.log(std)
    return 0.5 * jnp.sum(scaled - 1 - logs)
