"""Stochastic-gradient Hamiltonian Monte Carlo."""

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
from hoarfrost.methods.schedules import StepSchedule, step_sizes
from hoarfrost.types import Tree


def sample_sghmc(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    n_samples: int = 10,
    n_thinning: int = 1,
    burnin_length: int = 1000,
    momentum_decay: float = 0.01,
    step_schedule: StepSchedule | float = 1e-5,
    preconditioner: Preconditioner | None = None,
    num_chains: int = 1,
    seed: Any = 0,
    resume_dir: Any = None,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """Samples of the posterior by Hamiltonian dynamics with minibatch gradients.

    The momentum persists from step to step; the integrator is BAOAB with one gradient a step, whose
    samples of a Gaussian have its exact covariance where gradients are exact. A minibatch's noise
    widens them, the less the smaller the steps.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. Every chain starts from `params`.
    n_samples : int
        Samples of each chain.
    n_thinning : int
        Steps from one sample to the next.
    burnin_length : int
        Steps before the first sample.
    momentum_decay : float
        The part of the momentum that is drawn anew at each step, above 0 and at most 1.
    step_schedule : float or callable
        The square of the step, a learning rate of the log joint density: a number, or a function
        of the number of the step, as in `hoarfrost.methods.schedules`.
    preconditioner : Preconditioner, optional
        `identity_preconditioner()` by default, or `rmsprop_preconditioner()`.
    num_chains : int
        Chains that run side by side.
    seed : int or jax.Array
        Of batches, momenta and noise.
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
        If an argument or the data cannot be used; if the chain leaves the finite numbers; if
        `resume_dir` holds other chains, or some at work.
    SavedFileError
        If a file in `resume_dir` is damaged, or cannot be written.

    References
    ----------
    Chen, Fox and Guestrin (2014), Stochastic gradient Hamiltonian Monte Carlo.
    Leimkuhler and Matthews (2013), Robust and efficient configurational molecular sampling via
    Langevin dynamics.
    """
    plan = sghmc_plan(
        n_samples, n_thinning, burnin_length, momentum_decay, step_schedule, preconditioner
    )
    num_chains, key = check_count("num_chains", num_chains, 1), check_key(seed, "seed")
    with locked(resume_dir):
        problem = problem_of(model, params, data_loader, **options)
        return sample_chains(problem, plan, key, num_chains, resume_dir)


def sghmc_plan(
    n_samples: int,
    n_thinning: int,
    burnin_length: int,
    momentum_decay: float,
    step_schedule: StepSchedule | float,
    preconditioner: Preconditioner | None,
) -> ChainPlan:
    """What a chain does; raises `InvalidArgumentError` where an argument cannot be used."""
    check_sghmc(n_samples, n_thinning, burnin_length, momentum_decay, step_schedule, preconditioner)
    keep = [burnin_length + n_thinning * (place + 1) for place in range(n_samples)]
    sizes = step_sizes("step_schedule", step_schedule, keep[-1])
    pace = Pace(
        size=np.sqrt(sizes),
        persistence=np.full(keep[-1], 1 - float(plain(momentum_decay))),
        noise=np.ones(keep[-1]),
    )
    return ChainPlan("sghmc", pace, keep, preconditioner or identity_preconditioner())


def check_sghmc(
    n_samples: Any,
    n_thinning: Any,
    burnin_length: Any,
    momentum_decay: Any,
    step_schedule: Any,
    preconditioner: Any,
) -> None:
    """Raise `InvalidArgumentError` unless a chain can have these settings."""
    check_counts(n_samples=n_samples, n_thinning=n_thinning)
    check_count("burnin_length", burnin_length, 0)
    decay = plain(momentum_decay)
    if not is_number(decay) or not 0 < decay <= 1:
        raise InvalidArgumentError(
            f"momentum_decay is {shown(momentum_decay)}; give a number above 0 and at most 1"
        )
    if not callable(step_schedule):
        check_number("step_schedule", step_schedule, positive=True)
    check_preconditioner(preconditioner)
