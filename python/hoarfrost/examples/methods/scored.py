"""Scores of a fitted method on test points and on unknown inputs."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from hoarfrost.examples.methods.fits import Fitted
from hoarfrost.examples.methods.tasks import Task
from hoarfrost.examples.results.scores import COVERAGE, class_scores, number_scores

SECONDS, HELD = "seconds", "MB held"


def scores(fitted: Fitted, task: Task) -> dict[str, float]:
    """NLL, ECE (of numbers how far the 90 % interval's coverage is from that), AUROC, cost."""
    from sklearn.metrics import roc_auc_score

    inside, outside = fitted.predict(task.inputs), fitted.predict(task.unknown)
    if task.problem.classifies:
        found = class_scores(inside, task.targets)
        doubt = [_entropy(part) for part in (inside, outside)]
        own = {"NLL": found["NLL"], "ECE": found["ECE"], "accuracy": found["accuracy"]}
    else:
        density = fitted.log_prob(task.inputs, task.targets)
        found = number_scores(density, inside[0], interval(inside), task.targets)
        doubt = [np.sqrt(part[1])[:, 0] for part in (inside, outside)]
        own = {"NLL": found["NLL"], "coverage": found["coverage"], "RMSE": found["RMSE"]}
    unknown = np.repeat([0, 1], [len(part) for part in doubt])
    own["AUROC"] = float(roc_auc_score(unknown, np.concatenate(doubt)))
    return own | {SECONDS: fitted.seconds, HELD: fitted.held / 1e6}


def interval(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle 90 % of Gaussians, from their means and variances, axis 0."""
    mean, spread = moments[0], np.sqrt(moments[1])
    reach = NormalDist().inv_cdf((1 + COVERAGE) / 2) * spread
    return mean - reach, mean + reach


def _entropy(log_probs: np.ndarray) -> np.ndarray:
    found: np.ndarray = -np.sum(np.exp(log_probs) * log_probs, axis=1)
    return found
