"""Intervals between quantiles of ``prediction - residual`` and ``prediction + residual``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hoarfrost.conformal.checked import column, finite_scores, numbers
from hoarfrost.conformal.level import rank
from hoarfrost.conformal.regression.base import WHOLE_LINE, as_intervals
from hoarfrost.errors import ShapeError

# Numbers of one block of predictions plus residuals: 64 MiB.
_BLOCK = 2**23


def plus_intervals(
    residuals: np.ndarray, model: np.ndarray, outputs: np.ndarray, error: Any
) -> np.ndarray:
    """From the ``n + 1 - k``-th smallest of ``f_i(x) - r_i`` to the k-th of ``f_i(x) + r_i``.

    ``k = ceil((n + 1)(1 - error))`` (Barber, Candes, Ramdas and Tibshirani, Predictive Inference
    with the Jackknife+, 2021, equations 5 and 7).

    Parameters
    ----------
    residuals : numpy.ndarray
        Distance of each of n targets from the prediction of a model that had not seen it, ``(n,)``.
    model : numpy.ndarray
        Which model that was, ``(n,)``.
    outputs : numpy.ndarray
        Predictions of the K models at the N test points, ``(K, N)``.
    error : float
        Between 0 and 1, both excluded.

    Returns
    -------
    numpy.ndarray
        Float64, shape ``(N, 2)``.
    """
    n, num_points = len(residuals), outputs.shape[1]
    k = rank(error, n, WHOLE_LINE)
    lower, upper = np.full(num_points, -np.inf), np.full(num_points, np.inf)
    if k <= n:
        for points in _blocks(num_points, n):
            centres = outputs[:, points][model]
            with np.errstate(over="ignore"):
                low, high = centres - residuals[:, None], centres + residuals[:, None]
            lower[points] = np.partition(low, n - k, axis=0)[n - k]
            upper[points] = np.partition(high, k - 1, axis=0)[k - 1]
    return as_intervals(lower, upper)


def residuals_of(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Absolute residuals, shape ``(n,)``."""
    with np.errstate(over="ignore"):
        return finite_scores(np.abs(targets - outputs))


def leave_one_out(val_outputs: Any, val_targets: Any, test_outputs: Any) -> tuple[Any, Any]:
    """Residuals ``(n,)`` and outputs at the test points ``(n, N)`` of n leave-one-out models."""
    outputs = column("loo_val_outputs", val_outputs)
    targets = column("loo_val_targets", val_targets, outputs, "loo_val_outputs")
    tests = numbers("loo_test_outputs", test_outputs)
    if tests.ndim == 3 and tests.shape[2] == 1:
        tests = tests[:, :, 0]
    if tests.ndim != 2 or len(tests) != len(outputs):
        raise ShapeError(
            f"loo_test_outputs must have shape ({len(outputs)}, N) or ({len(outputs)}, N, 1), the "
            f"outputs of each leave-one-out model at all test points, but has {tests.shape}"
        )
    return residuals_of(outputs, targets), tests


def _blocks(num_points: int, n: int) -> Iterator[slice]:
    step = max(1, _BLOCK // n)
    return (slice(start, start + step) for start in range(0, num_points, step))
