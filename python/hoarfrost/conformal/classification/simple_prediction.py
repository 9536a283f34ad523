"""Simple prediction sets: the labels that are probable enough."""

from __future__ import annotations

import numpy as np

from hoarfrost.conformal.classification.base import (
    CVPlusConformalClassifier,
    SplitConformalClassifier,
)


class SimplePredictionConformalClassifier(SplitConformalClassifier):
    """Split conformal sets of the labels whose probability is above one threshold.

    The score is ``1 - p(y | x)`` (Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued
    Classifiers, 2019). Sets are the smallest on average; a set may be empty where no class is
    probable enough.
    """

    def _scores(self, probs: np.ndarray) -> np.ndarray:
        return simple_scores(probs)


class CVPlusSimplePredictionConformalClassifier(CVPlusConformalClassifier):
    """`SimplePredictionConformalClassifier`, its scores by cross-validation (CV+)."""

    def _scores(self, probs: np.ndarray) -> np.ndarray:
        return simple_scores(probs)


def simple_scores(probs: np.ndarray) -> np.ndarray:
    """``1 - p`` of every class, shape ``(N, C)``."""
    return 1.0 - probs
