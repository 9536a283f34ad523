"""The compiled core, called as the structures call it, and dense NumPy beside it.

The core is private, so it has no place among the public callables; a wrong number, an abort or a
hang in it is all the same one of Hoarfrost's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from entries import Subject

from hoarfrost import _core

_RNG = np.random.default_rng(5)
ROWS = _RNG.standard_normal((4, 3))
FEATURES, WEIGHTS = _RNG.standard_normal((4, 3)), _RNG.uniform(0.1, 1.0, (4, 2))
PRIOR = np.array([1.0, 2.0, 0.5])
JACOBIAN = _RNG.standard_normal((2, 2, 3))
ORDER = np.arange(3)
PRECISION = ROWS.T @ ROWS + np.diag(PRIOR)


def full() -> Any:
    curvature = _core.FullCurvature(3)
    curvature.add_rows(ROWS)
    return curvature


def add_rows(rows: Any) -> Any:
    curvature = _core.FullCurvature(3)
    curvature.add_rows(rows)
    return curvature.factor(PRIOR).precision(ORDER)


def factor(prior_precision: Any) -> Any:
    return full().factor(prior_precision).precision(ORDER)


def covariance(order: Any) -> Any:
    return full().factor(PRIOR).covariance(order)


def functional(jacobian: Any) -> Any:
    posterior = full().factor(PRIOR)
    return posterior.functional_covariance(jacobian), posterior.functional_variance(jacobian)


def draws(seed: Any, n: Any) -> Any:
    return full().factor(PRIOR).sample(seed, n)


def diagonal_rows(rows: Any) -> Any:
    curvature = _core.DiagonalCurvature(3)
    curvature.add_rows(rows)
    return curvature.diagonal()


def diagonal_head(features: Any, weights: Any) -> Any:
    curvature = _core.DiagonalCurvature(6)
    curvature.add_head(features, weights)
    return curvature.diagonal()


def head(features: Any, weights: Any) -> Any:
    curvature = _core.HeadCurvature("independent", 2, 3)
    curvature.add(features, weights)
    return curvature.factor(np.ones(6)).precision(np.arange(6))


def sizes(num_params: Any) -> Any:
    return _core.FullCurvature(num_params).nbytes


def core(run: Callable[..., Any], **base: Any) -> Subject:
    return Subject(run, run, lambda: base, {})


CORE: dict[str, Subject] = {
    "_core.FullCurvature": core(sizes, num_params=3),
    "_core.FullCurvature.add_rows": core(add_rows, rows=ROWS),
    "_core.FullCurvature.factor": core(factor, prior_precision=PRIOR),
    "_core.FullPosterior.covariance": core(covariance, order=ORDER),
    "_core.FullPosterior.functional_covariance": core(functional, jacobian=JACOBIAN),
    "_core.FullPosterior.sample": core(draws, seed=0, n=2),
    "_core.DiagonalCurvature.add_rows": core(diagonal_rows, rows=ROWS),
    "_core.DiagonalCurvature.add_head": core(diagonal_head, features=FEATURES, weights=WEIGHTS),
    "_core.HeadCurvature.add": core(head, features=FEATURES, weights=WEIGHTS),
    "_core.full_bytes": core(lambda num_params: _core.full_bytes(num_params), num_params=3),
    "_core.factor_flops": core(lambda num_params: _core.factor_flops(num_params), num_params=3),
    "_core.head_bytes": core(
        lambda outputs, num_outputs, num_features: _core.head_bytes(
            outputs, num_outputs, num_features
        ),
        outputs="softmax",
        num_outputs=3,
        num_features=4,
    ),
}
