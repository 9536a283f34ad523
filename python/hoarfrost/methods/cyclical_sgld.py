"""Stochastic-gradient Langevin dynamics with cyclical step sizes."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from hoarfrost.checks import (
    check_count,
    check_counts,
    check_key,
    check_number,
    is_number,
    plain,
    shown,
)
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.resume_folder import locked
from hoarfrost.methods.chain_run import ChainPlan
from hoarfrost.methods.chains import sample_chains
from hoarfrost.methods.langevin import Pace
from hoarfrost.methods.posterior import WeightPosterior
from hoarfrost.methods.preconditioners import (
    Preconditioner,
    check_preconditioner,
    identity_preconditioner,
)
from hoarfrost.methods.problem import ProblemOptions, problem_of
from hoarfrost.methods.schedules import cyclical_cosine_schedule_with_const_burnin
from hoarfrost.types import Tree


def sample_cyclical_sgld(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    n_samples: int = 10,
    n_thinning: int = 1,
    cycle_length: int = 1000,
    init_step_size: float = 1e-5,
    exploration_ratio: float = 0.25,
    preconditioner: Preconditioner | None = None,
    num_cycles: int = 5,
    num_chains: int = 1,
    seed: Any = 0,
    resume_dir: Any = None,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """Samples of the posterior by Langevin dynamics, cycle by cycle from mode to mode.

    In each cycle the step size falls from `init_step_size` along half a cosine. Its first part
    climbs by gradients alone; then ``theta + e grad log p + sqrt(2 e) xi``, the noise of two steps
    averaged (exact for a Gaussian where gradients are exact). Samples are taken from the second
    part of all cycles, evenly, the last steps of each before earlier ones.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. Every chain starts from `params`.
    n_samples : int
        Samples of each chain, from all of its cycles.
    n_thinning : int
        Steps from one sample of a cycle to the next.
    cycle_length : int
        Steps of a cycle.
    init_step_size : float
        The learning rate e of the log joint density at the start of a cycle.
    exploration_ratio : float
        The part of a cycle without noise, at least 0 and below 1.
    preconditioner : Preconditioner, optional
        `identity_preconditioner()` by default, or `rmsprop_preconditioner()`.
    num_cycles : int
        How many cycles there are.
    num_chains : int
        Chains that run side by side.
    seed : int or jax.Array
        Of batches and noise.
    resume_dir : str or path, optional
        A folder of these chains alone, made if it is missing, in which samples are kept as they
        come: memory holds only a few, and those of the posterior are mapped from there. Called
        again with the same arguments, chains that were broken off at any moment go on, and come
        to the same bits. It goes over the data once more.

    Returns
    -------
    WeightPosterior
        ``num_chains * n_samples`` listed samples, chain after chain.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used, or the cycles are too short for the samples; if
        the chain leaves the finite numbers; if `resume_dir` holds other chains, or some at work.
    SavedFileError
        If a file in `resume_dir` is damaged, or cannot be written.

    References
    ----------
    Zhang, Li, Zhang, Chen and Wilson (2020), Cyclical stochastic gradient MCMC for Bayesian deep
    learning.
    """
    plan = cyclical_plan(
        n_samples,
        n_thinning,
        cycle_length,
        init_step_size,
        exploration_ratio,
        preconditioner,
        check_count("num_cycles", num_cycles, 1) * check_count("cycle_length", cycle_length, 1),
    )
    num_chains, key = check_count("num_chains", num_chains, 1), check_key(seed, "seed")
    with locked(resume_dir):
        problem = problem_of(model, params, data_loader, **options)
        return sample_chains(problem, plan, key, num_chains, resume_dir)


def cyclical_plan(
    n_samples: int,
    n_thinning: int,
    cycle_length: int,
    init_step_size: float,
    exploration_ratio: float,
    preconditioner: Preconditioner | None,
    num_steps: int,
) -> ChainPlan:
    """What a chain does in so many steps; raises `InvalidArgumentError` where it cannot."""
    check_cyclical(
        n_samples, n_thinning, cycle_length, init_step_size, exploration_ratio, preconditioner
    )
    count, thinning, length = int(n_samples), int(n_thinning), int(cycle_length)
    first, ratio = float(plain(init_step_size)), float(plain(exploration_ratio))
    explored = int(ratio * length)
    place = np.arange(num_steps) % length
    keep = _kept(count, thinning, length, explored, num_steps)
    schedule = cyclical_cosine_schedule_with_const_burnin(first, 0, length)
    pace = Pace(
        # e = h^2 / 2; the schedule counts from 1.
        size=np.sqrt(2 * schedule(np.arange(1, num_steps + 1)))[: keep[-1]],
        persistence=np.zeros(keep[-1]),
        noise=(place >= explored).astype(float)[: keep[-1]],
    )
    return ChainPlan("cyclical_sgld", pace, keep, preconditioner or identity_preconditioner())


def check_cyclical(
    n_samples: Any,
    n_thinning: Any,
    cycle_length: Any,
    init_step_size: Any,
    exploration_ratio: Any,
    preconditioner: Any,
) -> None:
    """Raise `InvalidArgumentError` unless a chain can have these settings."""
    check_counts(n_samples=n_samples, n_thinning=n_thinning, cycle_length=cycle_length)
    check_number("init_step_size", init_step_size, positive=True)
    ratio = plain(exploration_ratio)
    if not is_number(ratio) or not 0 <= ratio < 1:
        raise InvalidArgumentError(
            f"exploration_ratio is {shown(exploration_ratio)}; give a number from 0 on and below 1"
        )
    check_preconditioner(preconditioner)


def _kept(count: int, thinning: int, length: int, explored: int, num_steps: int) -> list[int]:
    """After how many steps samples are kept: of each cycle its last ones."""
    ends = range(length, num_steps + 1, length)
    cycles = [list(range(end, end - length + explored, -thinning)) for end in ends]
    there = sum(map(len, cycles))
    if there < count:
        raise InvalidArgumentError(
            f"n_samples is {count}, but {num_steps} steps in cycles of {length} give {there}, with "
            f"n_thinning {thinning} in the part of each after exploration; give more steps, or "
            "smaller n_samples, n_thinning or exploration_ratio"
        )
    kept: list[int] = []
    for rank in range(max(map(len, cycles))):
        row = [cycle[rank] for cycle in cycles if rank < len(cycle)]
        # Of a row that is not needed whole, the later cycles.
        kept += row[::-1][: count - len(kept)]
    return sorted(kept)
