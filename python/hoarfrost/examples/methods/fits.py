"""Each method on a task: a posterior over its head, or over all of its parameters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.examples.methods.problem import Problem
from hoarfrost.examples.methods.settings import (
    FEATURES,
    MEMBERS,
    RANK,
    adam,
    chain,
    constant_sgd,
)
from hoarfrost.examples.methods.tasks import Task
from hoarfrost.methods import (
    WeightPosterior,
    fit_advi,
    fit_ensemble,
    fit_ivon,
    fit_sngp,
    fit_swag,
    sample_cyclical_sgld,
    sample_sghmc,
)

HEAD, NETWORK = "head", "network"
SUBSETS = (HEAD, NETWORK)
MAP, LAPLACE, EVIDENCE = "MAP", "Laplace", "Laplace, evidence"
Predict = Callable[[np.ndarray], np.ndarray]
LogProb = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a method gave.

    Attributes
    ----------
    predict : callable (inputs) -> ndarray
        Log-probabilities ``(B, C)``; of numbers mean and variance, ``(2, B, 1)``.
    log_prob : callable (inputs, targets) -> ndarray
        Log-densities, ``(B,)``.
    seconds : float
        What it took from the trained network on; of MAP the training.
    held : int
        Bytes of what stands for the posterior, beside the network.
    """

    predict: Predict
    log_prob: LogProb
    seconds: float
    held: int


Posterior = WeightPosterior | hoarfrost.Laplace
# From a problem, a subset of `SUBSETS`, a seed and whether to be quick.
Method = Callable[[Problem, str, int, bool], Posterior]


def fit(method: str, task: Task, subset: str, seed: int, quick: bool) -> Fitted:
    """Fit a method of `METHODS` to a subset of `SUBSETS`."""
    if method == MAP:
        return Fitted(*predictions(task.trained, task.problem), task.seconds, task.trained.nbytes)
    start = time.perf_counter()
    posterior = FITS[method](task.problem, subset, seed, quick)
    seconds = time.perf_counter() - start
    held = posterior.factor if isinstance(posterior, hoarfrost.Laplace) else posterior
    return Fitted(*predictions(posterior, task.problem), seconds, held.nbytes)


def predictions(posterior: Posterior, problem: Problem) -> tuple[Predict, LogProb]:
    """`Fitted.predict` and `Fitted.log_prob` of a posterior."""

    def predict(inputs: np.ndarray) -> np.ndarray:
        if not problem.classifies:
            return np.stack(posterior.predict(inputs))
        if isinstance(posterior, hoarfrost.Laplace):
            return np.asarray(posterior.predict(inputs, log=True))
        found = posterior.predict(inputs).astype(np.float64)
        return np.log(np.maximum(found, np.finfo(np.float32).tiny))

    def log_prob(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.asarray(posterior.log_prob(DataLoader.from_array_data((inputs, targets))))

    return predict, log_prob


def _options(problem: Problem, subset: str) -> dict[str, Any]:
    return {
        "likelihood": problem.likelihood,
        "trainable": "last_layer" if subset == HEAD else None,
        "progress": False,
    }


def _given(problem: Problem) -> tuple[Any, ...]:
    return problem.network, problem.params, problem.train


def _laplace_fit(problem: Problem, subset: str, seed: int, quick: bool) -> hoarfrost.Laplace:
    return hoarfrost.fit_laplace(*_given(problem), **_options(problem, subset))


def _by_evidence(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    posterior = _laplace_fit(problem, subset, seed, quick)
    posterior.optimize_prior_precision()
    return posterior


def _swag(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    return fit_swag(
        *_given(problem),
        rank=2 if quick else RANK,
        optimizer=constant_sgd(problem.rate),
        n_epochs=problem.epochs,
        seed=seed,
        **_options(problem, subset),
    )


def _advi(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    options = _options(problem, subset)
    return fit_advi(
        *_given(problem), optimizer=adam(), n_epochs=2 * problem.epochs, seed=seed, **options
    )


def _ivon(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    options = _options(problem, subset)
    return fit_ivon(
        *_given(problem),
        hess_init=10.0,
        beta2=0.999,
        n_epochs=2 * problem.epochs,
        seed=seed,
        **options,
    )


def _ensemble(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    return fit_ensemble(
        *_given(problem),
        ensemble_size=MEMBERS,
        optimizer=adam(),
        n_epochs=problem.epochs,
        seed=seed,
        **_options(problem, subset),
    )


def _sghmc(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    plan = chain(quick)
    return sample_sghmc(
        *_given(problem),
        n_samples=plan.samples,
        n_thinning=plan.thinning,
        burnin_length=plan.burnin,
        momentum_decay=0.03,
        step_schedule=problem.step,
        num_chains=plan.chains,
        seed=seed,
        **_options(problem, subset),
    )


def _cyclical(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    plan = chain(quick)
    total = plan.burnin + plan.samples * plan.thinning
    return sample_cyclical_sgld(
        *_given(problem),
        n_samples=plan.samples,
        n_thinning=plan.thinning,
        cycle_length=total // 4,
        num_cycles=4,
        init_step_size=problem.step,
        num_chains=plan.chains,
        seed=seed,
        **_options(problem, subset),
    )


def _sngp(problem: Problem, subset: str, seed: int, quick: bool) -> Posterior:
    options = _options(problem, subset) | {"trainable": _nothing if subset == HEAD else None}
    return fit_sngp(
        problem.body,
        problem.body_params,
        problem.train,
        output_dim=problem.outputs,
        gp_hidden_features=FEATURES,
        optimizer=adam(),
        n_epochs=problem.epochs,
        seed=seed,
        **options,
    )


def _nothing(path: Any, value: Any) -> bool:
    return False


FITS: dict[str, Method] = {
    LAPLACE: _laplace_fit,
    EVIDENCE: _by_evidence,
    "SWAG": _swag,
    "ADVI": _advi,
    "IVON": _ivon,
    "ensemble": _ensemble,
    "SGHMC": _sghmc,
    "cyclical SGLD": _cyclical,
    "SNGP": _sngp,
}
# MAP is where they start.
METHODS = (MAP, *FITS)
