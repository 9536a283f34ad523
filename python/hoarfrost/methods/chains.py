"""Samples of Langevin chains: burn-in, thinning, chains side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from hoarfrost.methods.ascent import member_batches
from hoarfrost.methods.batches import Batches
from hoarfrost.methods.chain_folder import samples_in
from hoarfrost.methods.chain_run import ChainPlan, ChainRun, Losses
from hoarfrost.methods.draws import Draws, Listed
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem
from hoarfrost.methods.side_by_side import gathered, groups_of
from hoarfrost.types import Array, Tree


def sample_chains(
    problem: Problem,
    plan: ChainPlan,
    key: jax.Array,
    num_chains: int,
    resume_dir: Any = None,
    batches: Batches | None = None,
) -> WeightPosterior:
    """Run chains side by side and keep their samples.

    The samples of chain c stand together, in the order in which it came to them. Chains that take
    much beside what is frozen run in groups, one after the other.

    Parameters
    ----------
    resume_dir : str or path, optional
        A folder, which the caller has locked, in which samples are kept as they come, and from
        which chains that were broken off go on.
    batches : Batches, optional
        Of these chains, where they are made already.
    """
    batches = member_batches(problem, key, num_chains) if batches is None else batches
    run = ChainRun(problem, plan, key, batches, groups_of(problem, num_chains))
    draws, losses = _in_memory(run) if resume_dir is None else samples_in(resume_dir, run)
    return posterior_on(problem, plan.name, Listed(draws), {"loss": losses.means})


def _in_memory(run: ChainRun) -> tuple[Draws, Losses]:
    losses = Losses(run)

    def samples() -> Iterator[Tree]:
        for chains in run.groups:
            kept = []
            for stop, chain, found in run.states(chains, run.begin(chains), 0, run.plan.keep):
                losses.add(stop, chains, found)
                kept.append(jax.device_get((chain.trainable, chain.statistics)))
            yield jax.tree.map(_by_chain, *kept)

    return Draws(*gathered(samples(), run.groups)), losses


def _by_chain(*samples: Array) -> Array:
    """``(kept, chains, ...)`` as one axis, chain after chain."""
    stacked = np.stack(samples, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
