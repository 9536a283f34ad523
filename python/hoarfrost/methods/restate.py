"""Statistics of a network's layers (those of a BatchNorm) under other parameters than it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.data import DataLoader
from hoarfrost.data.checked import data_batches
from hoarfrost.dtypes import at_least_float32
from hoarfrost.freezing import Subset
from hoarfrost.methods.draws import Distribution, Draws
from hoarfrost.methods.target import moving_leaves
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.predictive.weight_samples import with_own
from hoarfrost.types import Tree

# By how much the part of an average that stays may seem to depend on what it was, and the least
# part that a batch adds: below, nothing moves.
_STRAIGHT, _LEAST_SHARE = 1e-3, 1e-5


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
) -> tuple[Any, ...]:
    """Statistics under each of some parameters, in training mode, by one pass over the data.

    A running average sets ``m * old + (1 - m) * own`` of a batch: m and `own` are found by other
    values of `old`, so that nothing old is left in the mean of `own` over the batches, which weigh
    by their points. What moves otherwise (the singular vectors of a spectral norm) goes on from
    batch to batch, from what it was. What holds no real numbers stays.

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
        found.append(_over_data(subset, moving, params, loader))
    return tuple(jnp.stack(parts) for parts in zip(*found, strict=True))


def _over_data(
    subset: Subset, moving: tuple[bool, ...], params: Tree, loader: DataLoader
) -> list[Any]:
    old = moving_leaves(subset.mutable, moving)
    reached, averages = old, [False] * len(old)
    sums: list[Any] = [0] * len(old)
    points = 0
    for batch in data_batches(loader, one_shape=False, masks=True):
        own, reached, averaged = _program(
            subset.network, moving, params, subset.mutable, reached, batch.inputs, batch.index
        )
        if not points:
            averages = [bool(one) for one in averaged]
        sums = [
            total + batch.size * leaf if averages[place] else total
            for place, (total, leaf) in enumerate(zip(sums, own, strict=True))
        ]
        points += batch.size
    return [
        (total / points).astype(leaf.dtype) if average else leaf
        for total, leaf, average in zip(sums, reached, averages, strict=True)
    ]


def _batch_statistics(
    network: Network,
    moving: tuple[bool, ...],
    params: Tree,
    mutable: Tree,
    reached: tuple[jax.Array, ...],
    inputs: Tree,
    index: jax.Array,
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...], tuple[Any, ...]]:
    """What a batch alone would set, what it leads to from `reached`, and which are averages."""
    key = jax.random.fold_in(jax.random.PRNGKey(0), index)
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in reached]

    def after(old: Iterable[Any]) -> tuple[jax.Array, ...]:
        values = [o if r else leaf for o, r, leaf in zip(old, real, reached, strict=True)]
        moved = network.train(params, with_own(mutable, moving, tuple(values)), inputs, key)[1]
        return moving_leaves(moved, moving)

    pairs = list(zip(real, reached, strict=True))
    nothing = after(jnp.zeros_like(leaf) if is_real else leaf for is_real, leaf in pairs)
    # As large as what the batch adds, so that neither is lost in their sum.
    steps = [1 + jnp.abs(leaf) if r else leaf for r, leaf in zip(real, nothing, strict=True)]
    once, twice = after(steps), after(2 * s if r else s for r, s in zip(real, steps, strict=True))
    own, averages = [], []
    for is_real, *leaves in zip(real, nothing, once, twice, steps, strict=True):
        found, average = _as_average(*leaves) if is_real else (leaves[0], False)
        own.append(found)
        averages.append(average)
    moved = zip(pairs, after(reached), strict=True)
    return tuple(own), tuple(new if r else old for (r, old), new in moved), tuple(averages)


def _as_average(
    nothing: jax.Array, once: jax.Array, twice: jax.Array, step: jax.Array
) -> tuple[jax.Array, Any]:
    """What is added to ``m * old``, as if nothing were old; and whether it is a running average."""
    nothing, once, twice, step = map(at_least_float32, (nothing, once, twice, step))
    kept = (once - nothing) / step
    share = 1 - kept
    straight = jnp.abs((twice - once) / step - kept) < _STRAIGHT
    average = jnp.all(straight & (kept > -_STRAIGHT) & (share > _LEAST_SHARE))
    return nothing / jnp.where(share > _LEAST_SHARE, share, 1), average


_program = NetworkProgram(_batch_statistics, static=("moving",))
