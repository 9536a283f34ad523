"""Adaptive prediction sets: the most probable labels, as many as the point needs."""

from __future__ import annotations

import numpy as np

from hoarfrost.conformal.classification.base import (
    CVPlusConformalClassifier,
    SplitConformalClassifier,
)


class AdaptivePredictionConformalClassifier(SplitConformalClassifier):
    """Split conformal sets of the most probable labels, larger where the classifier is unsure.

    The score of a label is the sum of the probabilities of all classes that are at least as
    probable, its own included (Romano, Sesia and Candes, Classification with Valid and Adaptive
    Coverage, 2020, without their random number). The most probable class is always in the set, so
    that none is empty.
    """

    def _scores(self, probs: np.ndarray) -> np.ndarray:
        return adaptive_scores(probs)

    def _always(self, scores: np.ndarray) -> np.ndarray:
        return scores == scores.min(axis=1, keepdims=True)


class CVPlusAdaptivePredictionConformalClassifier(CVPlusConformalClassifier):
    """The score of `AdaptivePredictionConformalClassifier` by cross-validation (CV+)."""

    def _scores(self, probs: np.ndarray) -> np.ndarray:
        return adaptive_scores(probs)


def adaptive_scores(probs: np.ndarray) -> np.ndarray:
    """For every class the sum over those at least as probable, shape ``(N, C)``."""
    order = np.argsort(-probs, axis=1, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=1)
    sums = np.minimum(np.cumsum(ordered, axis=1), 1.0)
    sums[:, -1] = 1.0  # all classes, whatever rounding makes of their sum
    # Classes that are as probable as one another have the sum up to the last of them.
    last = np.ones(sums.shape, dtype=bool)
    last[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
    sums = np.minimum.accumulate(np.where(last, sums, np.inf)[:, ::-1], axis=1)[:, ::-1]
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores
