"""Samples of Langevin chains: burn-in, thinning, chains side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_count, check_key, seed_from_key
from hoarfrost.methods.batches import batches_of
from hoarfrost.methods.chain_folder import samples_in
from hoarfrost.methods.chain_run import ChainPlan, ChainRun, Losses
from hoarfrost.methods.draws import Draws, Listed
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem
from hoarfrost.methods.side_by_side import gathered, groups_of
from hoarfrost.types import Array, Tree


def sample_chains(
    problem: Problem, plan: ChainPlan, seed: Any, num_chains: int, resume_dir: Any = None
) -> WeightPosterior:
    """Run chains side by side and keep their samples.

    The samples of chain c stand together, in the order in which it came to them. Chains that take
    much beside what is frozen run in groups, one after the other.

    Parameters
    ----------
    resume_dir : str or path, optional
        A folder, which the caller has locked, in which samples are kept as they come, and from
        which chains that were broken off go on.
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
