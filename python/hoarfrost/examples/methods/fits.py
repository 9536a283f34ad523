"""Each method on a task: a posterior over its head, or over all of its parameters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.examples.methods.settings import (
    FEATURES,
    MEMBERS,
    RANK,
    adam,
    chain,
    constant_sgd,
)
from hoarfrost.examples.methods.tasks import Body, Task
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

    predict: Callable[[np.ndarray], np.ndarray]
    log_prob: Callable[[np.ndarray, np.ndarray], np.ndarray]
    seconds: float
    held: int


Method = Callable[[Task, str, int, bool], Any]


def fit(method: str, task: Task, subset: str, seed: int, quick: bool) -> Fitted:
    """Fit a method of `METHODS` to a subset of `SUBSETS`."""
    start = time.perf_counter()
    posterior = METHODS[method](task, subset, seed, quick)
    seconds = task.seconds if method == MAP else time.perf_counter() - start
    if isinstance(posterior, hoarfrost.Laplace):
        return Fitted(*_laplace(posterior, task), seconds, posterior.factor.nbytes)
    return Fitted(*_weights(posterior, task), seconds, posterior.nbytes)


def _options(task: Task, subset: str) -> dict[str, Any]:
    return {
        "likelihood": task.likelihood,
        "trainable": "last_layer" if subset == HEAD else None,
        "progress": False,
    }


def _given(task: Task) -> tuple[Any, ...]:
    return task.network, task.trained.merge(), task.train


def _map(task: Task, subset: str, seed: int, quick: bool) -> Any:
    return task.trained


def _laplace_fit(task: Task, subset: str, seed: int, quick: bool) -> Any:
    return hoarfrost.fit_laplace(*_given(task), **_options(task, subset))


def _by_evidence(task: Task, subset: str, seed: int, quick: bool) -> Any:
    posterior = _laplace_fit(task, subset, seed, quick)
    posterior.optimize_prior_precision()
    return posterior


def _swag(task: Task, subset: str, seed: int, quick: bool) -> Any:
    return fit_swag(
        *_given(task),
        rank=2 if quick else RANK,
        optimizer=constant_sgd(),
        n_epochs=task.epochs,
        seed=seed,
        **_options(task, subset),
    )


def _advi(task: Task, subset: str, seed: int, quick: bool) -> Any:
    options = _options(task, subset)
    return fit_advi(*_given(task), optimizer=adam(), n_epochs=2 * task.epochs, seed=seed, **options)


def _ivon(task: Task, subset: str, seed: int, quick: bool) -> Any:
    options = _options(task, subset)
    return fit_ivon(
        *_given(task),
        hess_init=10.0,
        beta2=0.999,
        n_epochs=2 * task.epochs,
        seed=seed,
        **options,
    )


def _ensemble(task: Task, subset: str, seed: int, quick: bool) -> Any:
    return fit_ensemble(
        *_given(task),
        ensemble_size=MEMBERS,
        optimizer=adam(),
        n_epochs=task.epochs,
        seed=seed,
        **_options(task, subset),
    )


def _sghmc(task: Task, subset: str, seed: int, quick: bool) -> Any:
    plan = chain(quick)
    return sample_sghmc(
        *_given(task),
        n_samples=plan.samples,
        n_thinning=plan.thinning,
        burnin_length=plan.burnin,
        momentum_decay=0.03,
        step_schedule=task.step,
        num_chains=plan.chains,
        seed=seed,
        **_options(task, subset),
    )


def _cyclical(task: Task, subset: str, seed: int, quick: bool) -> Any:
    plan = chain(quick)
    total = plan.burnin + plan.samples * plan.thinning
    return sample_cyclical_sgld(
        *_given(task),
        n_samples=plan.samples,
        n_thinning=plan.thinning,
        cycle_length=total // 4,
        num_cycles=4,
        init_step_size=task.step,
        num_chains=plan.chains,
        seed=seed,
        **_options(task, subset),
    )


def _sngp(task: Task, subset: str, seed: int, quick: bool) -> Any:
    body = Body(task.network.width)
    params = {"params": task.trained.merge()["params"]["body"]}
    options = _options(task, subset) | {"trainable": _nothing if subset == HEAD else None}
    return fit_sngp(
        body,
        params,
        task.train,
        output_dim=task.network.outputs,
        gp_hidden_features=FEATURES,
        optimizer=adam(),
        n_epochs=task.epochs,
        seed=seed,
        **options,
    )


def _nothing(path: Any, value: Any) -> bool:
    return False


METHODS: dict[str, Method] = {
    MAP: _map,
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


def _laplace(posterior: hoarfrost.Laplace, task: Task) -> tuple[Any, Any]:
    def predict(inputs: np.ndarray) -> np.ndarray:
        if task.classifies:
            return np.asarray(posterior.predict(inputs, log=True))
        return np.stack(posterior.predict(inputs))

    return predict, _densities(posterior)


def _weights(posterior: WeightPosterior, task: Task) -> tuple[Any, Any]:
    def predict(inputs: np.ndarray) -> np.ndarray:
        if task.classifies:
            found = posterior.predict(inputs).astype(np.float64)
            return np.log(np.maximum(found, np.finfo(np.float32).tiny))
        return np.stack(posterior.predict(inputs))

    return predict, _densities(posterior)


def _densities(posterior: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def log_prob(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.asarray(posterior.log_prob(DataLoader.from_array_data((inputs, targets))))

    return log_prob
