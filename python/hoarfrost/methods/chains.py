"""Samples of Langevin chains: burn-in, thinning, chains side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_count, check_key, seed_from_key
from hoarfrost.dtypes import at_least_float32
from hoarfrost.methods.ascent import repeated
from hoarfrost.methods.batches import Batches, batches_of
from hoarfrost.methods.draws import Draws, Listed, normal_like
from hoarfrost.methods.langevin import Chain, LangevinStep, Pace
from hoarfrost.methods.loop import Loop
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.preconditioners import Preconditioner
from hoarfrost.methods.problem import Problem
from hoarfrost.methods.side_by_side import gathered, groups_of
from hoarfrost.types import Array, Tree


@dataclass(frozen=True, eq=False)
class ChainPlan:
    """What a chain does.

    Attributes
    ----------
    name : str
        Of the method.
    pace : Pace
        Numbers of each step, arrays of shape ``(steps,)``.
    keep : sequence of int
        After how many steps a sample is kept, ascending.
    preconditioner : Preconditioner
        Of gradients and noise.
    """

    name: str
    pace: Pace
    keep: Sequence[int]
    preconditioner: Preconditioner


def sample_chains(problem: Problem, plan: ChainPlan, seed: Any, num_chains: int) -> WeightPosterior:
    """Run chains side by side and keep their samples.

    The samples of chain c stand together, in the order in which it came to them. Chains that take
    much beside what is frozen run in groups, one after the other.
    """
    num_chains = check_count("num_chains", num_chains, 1)
    key = check_key(seed)
    batches = batches_of(
        problem.loader,
        problem.points,
        pads=problem.pads,
        num_chains=num_chains,
        seed=seed_from_key(key),
    )
    groups = groups_of(problem, num_chains)
    losses: list[Array] = []

    def samples() -> Iterator[Tree]:
        for group in groups:
            found, loss = _run(problem, plan, key, batches.part(group), group)
            losses.append(loss)
            yield found

    trainable, statistics = gathered(samples(), groups)
    status = {"loss": by_epoch(np.concatenate(losses, axis=1), batches.per_epoch)}
    return posterior_on(problem, plan.name, Listed(Draws(trainable, statistics)), status)


def _run(
    problem: Problem, plan: ChainPlan, key: jax.Array, batches: Batches, chains: range
) -> tuple[Tree, Array]:
    """Samples of some chains, and their losses ``(steps, chains)``."""
    loop = Loop(
        problem.subset.network,
        problem.kind,
        problem.given,
        batches,
        LangevinStep(plan.preconditioner),
        key,
        len(chains),
    )
    kept: list[Tree] = []
    losses: list[Array] = []
    begin = loop.start(_begin(problem, plan.preconditioner, key, chains))
    for _, carried, found in loop.run(
        begin,
        0,
        plan.keep,
        plan.pace,
        None,
        description=plan.name,
        progress=problem.progress,
        remedy="give smaller steps, or start from trained parameters",
    ):
        losses.append(found)
        chain = carried.state
        kept.append(jax.device_get((chain.trainable, chain.statistics)))
    return jax.tree.map(_by_chain, *kept), np.concatenate(losses)


def by_epoch(losses: Array, per_epoch: int) -> Array:
    """Mean losses of each pass over the data, of all chains, ``(epochs,)``."""
    starts = np.arange(0, len(losses), per_epoch)
    sums = np.add.reduceat(losses.mean(axis=1), starts)
    return sums / np.diff(np.append(starts, len(losses)))


def _begin(
    problem: Problem, preconditioner: Preconditioner, key: jax.Array, chains: range
) -> Chain:
    """Some chains at the parameters that were given, each with a momentum of its own."""
    wide = jax.tree.map(at_least_float32, problem.whole.trainable)

    def momentum(chain: jax.Array) -> Tree:
        # Steps count from 0, so that no step draws from this key.
        own = jax.random.fold_in(jax.random.fold_in(key, chain), np.uint32(2**32 - 1))
        return normal_like(wide, own)

    start, scale = repeated(problem, len(chains)), preconditioner.init(wide)
    scales = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(chains), axis=0), scale)
    momenta = jax.vmap(momentum)(jnp.arange(chains.start, chains.stop))
    return Chain(start.trainable, momenta, scales, start.statistics)


def _by_chain(*samples: Array) -> Array:
    """``(kept, chains, ...)`` as one axis, chain after chain."""
    stacked = np.stack(samples, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
