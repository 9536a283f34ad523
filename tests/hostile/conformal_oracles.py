"""Conformal scores, sets and intervals in plain NumPy, point by point."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from agreement import Arguments, agrees, wide


def rank(error: Any, n: int) -> int:
    return math.ceil((n + 1) * (1 - Fraction(repr(float(error)))))


def quantile_of(scores: np.ndarray, error: Any) -> float:
    k = rank(error, len(scores))
    return float(np.sort(scores)[k - 1]) if k <= len(scores) else math.inf


def flat(given: Arguments, *names: str) -> list[np.ndarray]:
    return [wide(given[name]).reshape(-1) for name in names]


def fits(*arrays: np.ndarray) -> str:
    lengths = {array.size for array in arrays}
    return "" if len(lengths) == 1 and 0 not in lengths else "a result for shapes that do not fit"


def score_beyond(given: Arguments, result: Any) -> str:
    low, high, y = flat(given, "val_lower_bounds", "val_upper_bounds", "val_targets")
    return fits(low, high, y) or agrees(result, np.maximum(low - y, y - high))


def score_in_uncertainties(given: Arguments, result: Any) -> str:
    preds, widths, y = flat(given, "val_preds", "val_uncertainties", "val_targets")
    return fits(preds, widths, y) or agrees(result, np.abs(y - preds) / widths)


def quantile_beyond(given: Arguments, result: Any) -> str:
    low, high, y = flat(given, "val_lower_bounds", "val_upper_bounds", "val_targets")
    scores = np.maximum(low - y, y - high)
    if given.get("scores") is not None:
        (scores,) = flat(given, "scores")
    return fits(low, high, y, scores) or agrees(result, quantile_of(scores, given["error"]))


def quantile_in_uncertainties(given: Arguments, result: Any) -> str:
    preds, widths, y = flat(given, "val_preds", "val_uncertainties", "val_targets")
    scores = np.abs(y - preds) / widths
    if given.get("scores") is not None:
        (scores,) = flat(given, "scores")
    return fits(preds, widths, y, scores) or agrees(result, quantile_of(scores, given["error"]))


def in_intervals(given: Arguments, result: Any) -> str:
    (values,), ends = flat(given, "values"), wide(given["conformal_intervals"])
    if ends.shape != (values.size, 2):
        return "a result for shapes that do not fit"
    return agrees(result, (ends[:, 0] <= values) & (values <= ends[:, 1]))


def leave_one_out(minmax: bool) -> Any:
    def oracle(given: Arguments, result: Any) -> str:
        outputs, y = flat(given, "loo_val_outputs", "loo_val_targets")
        tests = wide(given["loo_test_outputs"]).reshape(len(outputs), -1)
        if fault := fits(outputs, y):
            return fault
        r, k, n = np.abs(y - outputs), rank(given["error"], len(y)), len(y)
        if k > n:
            wanted = np.tile([-np.inf, np.inf], (tests.shape[1], 1))
        elif minmax:
            q = np.sort(r)[k - 1]
            wanted = np.stack([tests.min(0) - q, tests.max(0) + q], axis=1)
        else:
            low, high = np.sort(tests - r[:, None], axis=0), np.sort(tests + r[:, None], axis=0)
            wanted = np.stack([low[n - k], high[k - 1]], axis=1)
        return agrees(result, wanted)

    return oracle


ORACLES = {
    "QuantileConformalRegressor.score": score_beyond,
    "QuantileConformalRegressor.quantile": quantile_beyond,
    "OneDimensionalUncertaintyConformalRegressor.score": score_in_uncertainties,
    "OneDimensionalUncertaintyConformalRegressor.quantile": quantile_in_uncertainties,
    "QuantileConformalRegressor.is_in": in_intervals,
    "JackknifePlusConformalRegressor.conformal_interval": leave_one_out(minmax=False),
    "JackknifeMinmaxConformalRegressor.conformal_interval": leave_one_out(minmax=True),
}
