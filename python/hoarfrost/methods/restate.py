"""Statistics of a network's layers (those of a BatchNorm) under other parameters than it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data import DataLoader
from hoarfrost.data.checked import data_batches
from hoarfrost.freezing import Subset
from hoarfrost.methods.draws import Distribution, Draws
from hoarfrost.methods.target import moving_leaves
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.predictive.weight_samples import with_own
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False)
class Restated:
    """Draws of a distribution, each with the statistics that the data have under it.

    Attributes
    ----------
    inner : Distribution
        Of the parameters.
    subset : Subset
        The network.
    moving : tuple of bool
        Which leaves of its other collections are statistics.
    loader : DataLoader
        The data, of which every draw goes over the inputs once.
    """

    inner: Distribution
    subset: Subset
    moving: tuple[bool, ...]
    loader: DataLoader

    @property
    def listed(self) -> None:
        """Values are drawn."""
        return None

    @property
    def mean(self) -> Tree:
        """Of the parameters."""
        return self.inner.mean

    @property
    def nbytes(self) -> int:
        """Of the distribution of the parameters."""
        return self.inner.nbytes

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """Draws with statistics of their own."""
        trainable = self.inner.draw(key, n_samples).trainable
        return Draws(trainable, statistics_under(self.subset, self.moving, trainable, self.loader))


def statistics_under(
    subset: Subset, moving: tuple[bool, ...], trainable: Tree, loader: DataLoader
) -> tuple[np.ndarray, ...]:
    """Statistics under each of some parameters: the mean of those of all batches.

    A layer with running statistics sets ``m * old + (1 - m) * own`` of a batch; m and `own` are
    found by two values of `old`, so that no old statistics are left in the mean. Batches weigh by
    their points. Leaves that hold no real numbers, and such as do not move, stay.

    Parameters
    ----------
    trainable : tree of arrays
        Leading axis S; one of them at a time goes over the data.
    """
    size = jax.tree.leaves(trainable)[0].shape[0]
    found = []
    for place in range(size):
        one = jax.tree.map(lambda leaf, place=place: leaf[place], trainable)
        params = subset.partition.merge(one, subset.frozen)
        found.append(_over_data(subset, moving, params, _inputs(loader)))
    return tuple(np.stack(parts) for parts in zip(*found, strict=True))


def _inputs(loader: DataLoader) -> Iterator[tuple[Tree, int]]:
    for batch in data_batches(loader, one_shape=False, masks=True):
        yield batch.inputs, batch.size


def _over_data(
    subset: Subset, moving: tuple[bool, ...], params: Tree, batches: Iterator[tuple[Tree, int]]
) -> list[np.ndarray]:
    sums: list[Any] = []
    points = 0
    for inputs, size in batches:
        own = _program(subset.network, moving, params, subset.mutable, inputs)
        sums = [size * leaf for leaf in own] if not sums else _added(sums, own, size)
        points += size
    old = moving_leaves(subset.mutable, moving)
    return [
        np.asarray(total / points).astype(leaf.dtype) for total, leaf in zip(sums, old, strict=True)
    ]


def _added(sums: list[Any], own: tuple[jax.Array, ...], size: int) -> list[Any]:
    return [total + size * leaf for total, leaf in zip(sums, own, strict=True)]


def _own_statistics(
    network: Network, moving: tuple[bool, ...], params: Tree, mutable: Tree, inputs: Tree
) -> tuple[jax.Array, ...]:
    """What a batch alone would set, at least in float32."""
    old = moving_leaves(mutable, moving)
    key = jax.random.PRNGKey(0)

    def after(value: float) -> tuple[jax.Array, ...]:
        real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in old]
        begun = tuple(
            jnp.full_like(leaf, value) if is_real else leaf
            for leaf, is_real in zip(old, real, strict=True)
        )
        return moving_leaves(
            network.train(params, with_own(mutable, moving, begun), inputs, key)[1], moving
        )

    def solved(before: jax.Array, zero: jax.Array, one: jax.Array) -> jax.Array:
        if not jnp.issubdtype(before.dtype, jnp.floating):
            return before
        wide = jnp.promote_types(before.dtype, jnp.float32)
        zero, one = zero.astype(wide), one.astype(wide)
        share = 1 - (one - zero)
        moves = share > 1e-6
        return jnp.where(moves, zero / jnp.where(moves, share, 1), before.astype(wide))

    return tuple(map(solved, old, after(0.0), after(1.0)))


_program = NetworkProgram(_own_statistics, static=("moving",))
