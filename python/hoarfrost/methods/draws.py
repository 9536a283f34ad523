"""Distributions over the trainable parameters, as their draws.

A new kind of distribution is a class here with `draw`, `arrays` and `header`, and a line in
`hoarfrost.methods.saving`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.methods.langevin import normal_like
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of the trainable parameters.

    Attributes
    ----------
    trainable : tree of arrays
        Leading axis S.
    statistics : tuple of arrays
        What each draw has of its own of the network's other collections; () where nothing.
    """

    trainable: Tree
    statistics: tuple[Any, ...] = ()

    @property
    def size(self) -> int:
        """S."""
        return int(jax.tree.leaves(self.trainable)[0].shape[0])

    def at(self, places: Any) -> Draws:
        """Some of them."""
        trainable, statistics = jax.tree.map(
            lambda leaf: leaf[places], (self.trainable, self.statistics)
        )
        return Draws(trainable, statistics)


@runtime_checkable
class Distribution(Protocol):
    """What draws come from.

    Attributes
    ----------
    size : int or None
        How many values it can take; None where they are not listed.
    """

    @property
    def size(self) -> int | None:
        """How many values it can take."""

    @property
    def mean(self) -> Tree:
        """Of the trainable parameters, a tree like theirs."""

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """So many draws, independent of each other."""


@dataclass(frozen=True, eq=False)
class Listed:
    """Equal weights on listed values: the samples of a chain, or the members of an ensemble."""

    draws: Draws

    @property
    def size(self) -> int:
        """How many there are."""
        return self.draws.size

    @property
    def mean(self) -> Tree:
        """Of the values, in float64."""
        return jax.tree.map(
            lambda leaf: np.mean(leaf, axis=0, dtype=np.float64), self.draws.trainable
        )

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """Values drawn with replacement."""
        return self.draws.at(np.asarray(jax.random.randint(key, (n_samples,), 0, self.size)))


@dataclass(frozen=True, eq=False)
class GaussianDraws:
    """A Gaussian with a diagonal covariance, plus one of low rank.

    ``mean + std * z + deviations^T u / sqrt(K - 1) * share``, with z and u standard normal.

    Attributes
    ----------
    mean, std : tree of arrays
        Like the trainable tree.
    deviations : tree of arrays or None
        Leading axis K; their products over ``K - 1`` are the part of low rank.
    """

    mean: Tree
    std: Tree
    deviations: Tree | None = None

    @property
    def size(self) -> None:
        """It has a density."""
        return None

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """Draws of the Gaussian."""
        return Draws(_gaussian(self.mean, self.std, self.deviations, key, n_samples))


def _gaussian(mean: Tree, std: Tree, deviations: Tree | None, key: jax.Array, count: int) -> Tree:
    first, second = jax.random.split(key)
    shape = jax.eval_shape(lambda tree: _repeated(tree, count), mean)
    drawn = jax.tree.map(lambda m, s, z: m + s * z, mean, std, normal_like(shape, first))
    if deviations is None:
        return drawn
    rank = jax.tree.leaves(deviations)[0].shape[0]
    weights = jax.random.normal(second, (count, rank)) / np.sqrt(max(rank - 1, 1))
    return jax.tree.map(
        lambda d, one: d + jnp.tensordot(weights.astype(one.dtype), one, 1), drawn, deviations
    )


def _repeated(tree: Tree, count: int) -> Tree:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), tree)
