"""The step of stochastic-gradient Hamiltonian and Langevin dynamics.

BAOAB with one gradient a step (Leimkuhler and Matthews, 2013): with step h, momentum p of unit
mass, xi a standard normal, and S the root of a diagonal preconditioner,

    p <- p + h S grad log p(D, theta)          theta <- theta + h/2 S p
    p <- c p + sqrt(1 - c^2) xi                 theta <- theta + h/2 S p

Where the gradient is exact, the covariance of theta under a Gaussian is exact at every step that
is stable. Minibatches whose gradients have covariance V, drawn anew at each step, add about X,

    A X + X A = h^2/2 (1 + c) / (1 - c) V

to that of a Gaussian of precision A: it goes with the square of the step. Batches without
replacement add less, for those of a pass sum up to all data. With c = 0 it is Langevin dynamics
with the noise of two steps averaged: ``theta + h^2/2 g + h (xi + xi') / 2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.methods.draws import normal_like
from hoarfrost.methods.preconditioners import Preconditioner
from hoarfrost.methods.target import BatchTarget
from hoarfrost.types import Tree, pytree


@pytree
@dataclass(frozen=True)
class Chain:
    """The state of a chain.

    Attributes
    ----------
    trainable, momentum : tree of arrays
        Position and momentum.
    scale : tree of arrays
        The preconditioner's state.
    statistics : tuple of arrays
        What moves of the network's other collections.
    """

    trainable: Tree
    momentum: Tree
    scale: Tree
    statistics: tuple[jax.Array, ...]


@pytree
@dataclass(frozen=True)
class Pace:
    """What each step takes, arrays of shape ``(steps,)``.

    Attributes
    ----------
    size : array
        h.
    persistence : array
        c, the part of the momentum that stays.
    noise : array
        1 where noise is drawn, 0 where the chain climbs to a mode.
    """

    size: Any
    persistence: Any
    noise: Any


@dataclass(frozen=True)
class LangevinStep:
    """One step, under a preconditioner."""

    preconditioner: Preconditioner

    def __call__(
        self, target: BatchTarget, chain: Chain, key: jax.Array, pace: Pace, _: None
    ) -> tuple[Chain, jax.Array]:
        """The chain one step on, and the log joint density before it."""
        network_key, noise_key = jax.random.split(key)

        def density(trainable: Tree) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            return target.log_joint(trainable, chain.statistics, network_key)

        (found, statistics), gradient = jax.value_and_grad(density, has_aux=True)(chain.trainable)
        scale = self.preconditioner.update(chain.scale, gradient)
        root = self.preconditioner.root(scale, gradient)
        half = pace.size / 2
        fresh = pace.noise * jnp.sqrt(1 - pace.persistence**2)
        xi = normal_like(chain.momentum, noise_key)

        def moved(
            theta: jax.Array, p: jax.Array, g: jax.Array, s: jax.Array, xi: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            p = p + pace.size.astype(p.dtype) * s * g.astype(p.dtype)
            after = pace.persistence.astype(p.dtype) * p + fresh.astype(p.dtype) * xi
            return (theta + half.astype(p.dtype) * s * (p + after)).astype(theta.dtype), after

        pairs = jax.tree.map(moved, chain.trainable, chain.momentum, gradient, root, xi)
        outer, inner = jax.tree.structure(chain.trainable), jax.tree.structure((0, 0))
        trainable, momentum = jax.tree.transpose(outer, inner, pairs)
        return Chain(trainable, momentum, scale, statistics), found
