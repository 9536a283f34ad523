"""Distributions over the trainable parameters, as their draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

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
        return Draws(*jax.tree.map(lambda leaf: leaf[places], (self.trainable, self.statistics)))


class Distribution(Protocol):
    """What draws come from."""

    @property
    def listed(self) -> Draws | None:
        """All of its values, of equal weight; None where they are not listed."""

    @property
    def mean(self) -> Tree:
        """Of the trainable parameters, a tree like theirs."""

    @property
    def nbytes(self) -> int:
        """Of what it holds, beside the network."""

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """So many draws; listed values come as evenly as may be."""


@dataclass(frozen=True, eq=False)
class Listed:
    """Equal weights on listed values: the samples of a chain, or the members of an ensemble."""

    draws: Draws

    @property
    def listed(self) -> Draws:
        """The values."""
        return self.draws

    @property
    def mean(self) -> Tree:
        """Of the values, summed in float64, in their own dtype."""
        return jax.tree.map(
            lambda leaf: np.mean(np.asarray(leaf), axis=0, dtype=np.float64).astype(leaf.dtype),
            self.draws.trainable,
        )

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return tree_bytes((self.draws.trainable, self.draws.statistics))

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """Each value as often as the others, but for what does not go up, in random order."""
        rounds, left = divmod(n_samples, self.draws.size)
        first, second = jax.random.split(key)
        some = jax.random.permutation(first, self.draws.size)[:left]
        places = np.concatenate([np.repeat(np.arange(self.draws.size), rounds), np.asarray(some)])
        return self.draws.at(places[np.asarray(jax.random.permutation(second, n_samples))])


@dataclass(frozen=True, eq=False)
class GaussianDraws:
    """A Gaussian: ``mean + std * z + deviations^T u``, z and u standard normal.

    Its covariance is ``diag(std^2) + deviations^T deviations``.

    Attributes
    ----------
    mean, std : tree of arrays
        Like the trainable tree; draws have the dtype of `mean`, `std` may be wider.
    deviations : tree of arrays or None
        Leading axis K, the rank of the second part, in the dtype of `std`.
    """

    mean: Tree
    std: Tree
    deviations: Tree | None = None

    @property
    def listed(self) -> None:
        """It has a density."""
        return None

    @property
    def nbytes(self) -> int:
        """Of mean, standard deviations and deviations."""
        return tree_bytes((self.mean, self.std, self.deviations))

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """Draws of the Gaussian."""
        return Draws(_gaussian(self.mean, self.std, self.deviations, key, n_samples))


def tree_bytes(tree: Tree) -> int:
    """Of all arrays of a tree."""
    return sum(int(leaf.nbytes) for leaf in jax.tree.leaves(tree))


def normal_like(tree: Tree, key: jax.Array) -> Tree:
    """Standard normal numbers of the shapes and dtypes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(own, leaf.shape, leaf.dtype)
        for own, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _gaussian(mean: Tree, std: Tree, deviations: Tree | None, key: jax.Array, count: int) -> Tree:
    first, second = jax.random.split(key)
    like = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *np.shape(leaf))), std)
    drawn = jax.tree.map(lambda s, z: s * z, std, normal_like(like, first))
    if deviations is not None:
        weights = jax.random.normal(second, (count, jax.tree.leaves(deviations)[0].shape[0]))
        drawn = jax.tree.map(
            lambda d, own: d + jnp.tensordot(weights.astype(own.dtype), own, 1), drawn, deviations
        )
    return jax.tree.map(lambda m, d: (m.astype(d.dtype) + d).astype(m.dtype), mean, drawn)
