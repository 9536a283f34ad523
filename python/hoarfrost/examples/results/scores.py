"""Scores of one method on one kind of points, and what seeds say of the difference of two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hoarfrost import metric

COVERAGE = 0.9
# Half of the last digit that is printed: what is smaller cannot be seen in a table.
_SEEN = 0.0005
_STANDARD_ERRORS = 2.0


class Row(NamedTuple):
    """A line of a table: what is measured, and where."""

    metric: str
    where: str


# Scores of every method, by its name.
Scores = Mapping[Row, Mapping[str, float]]

# What should be small of each score; the others are only told.
_COSTS: dict[str, Callable[[float], float]] = {
    "NLL": lambda value: value,
    "ECE": lambda value: value,
    "Brier": lambda value: value,
    "RMSE": lambda value: value,
    "accuracy": lambda value: -value,
    "AUROC": lambda value: -value,
    "coverage": lambda value: abs(value - COVERAGE),
}
# Where no class is right, confidence is a fault.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Summary:
    """A score over the seeds.

    Attributes
    ----------
    mean : float
        Their mean.
    standard_error : float
        Of the mean; NaN for one seed.
    """

    mean: float
    standard_error: float

    def __str__(self) -> str:
        if math.isnan(self.standard_error):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.standard_error:.3f}"


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard error of one number a seed."""
    array = np.asarray(values, np.float64)
    error = array.std(ddof=1) / math.sqrt(array.size) if array.size > 1 else math.nan
    return Summary(float(array.mean()), float(error))


def verdict(row: Row, ours: Sequence[float], theirs: Sequence[float]) -> str | None:
    """How the first method does against the second, the seeds being paired.

    Returns
    -------
    str or None
        "wins" or "loses" where the difference of their costs is more than two of its standard
        errors and shows in the digits printed, else "same"; None where neither high nor low is
        good.
    """
    cost = _COSTS.get(row.metric)
    if row.metric == "confidence" and row.where == UNKNOWN:
        cost = _COSTS["NLL"]
    if cost is None:
        return None
    found = summarise([cost(a) - cost(b) for a, b in zip(ours, theirs, strict=True)])
    # NaN, the error of one seed, is no ground for a verdict either.
    if not abs(found.mean) > max(_STANDARD_ERRORS * found.standard_error, _SEEN):
        return "same"
    if math.isnan(found.standard_error):
        return "same"
    return "loses" if found.mean > 0 else "wins"


def class_scores(log_probs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """NLL, ECE, Brier score and accuracy.

    Parameters
    ----------
    log_probs : ndarray
        Shape ``(N, C)``.
    targets : ndarray
        Classes, shape ``(N,)``.
    """
    probabilities, labels = np.exp(log_probs), log_probs.argmax(axis=1)
    return {
        "NLL": float(metric.nll(log_probs, targets, log=True)),
        "ECE": float(metric.ece(labels, probabilities, targets)),
        "Brier": float(metric.brier_score(probabilities, targets)),
        "accuracy": float(metric.accuracy(labels, targets)),
    }


def number_scores(
    log_density: np.ndarray,
    mean: np.ndarray,
    interval: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray,
) -> dict[str, float]:
    """NLL, RMSE, and the part of the targets that an interval of 90 % holds.

    Parameters
    ----------
    log_density : ndarray
        Of each target, shape ``(N,)``.
    mean, targets : ndarray
        Shape ``(N, 1)``.
    interval : tuple of ndarray
        Its lower and upper ends, each ``(N, 1)``.
    """
    return {
        "NLL": -float(np.mean(log_density, dtype=np.float64)),
        "coverage": float(metric.picp(*interval, targets)),
        "RMSE": float(metric.rmse(mean, targets)),
    }
