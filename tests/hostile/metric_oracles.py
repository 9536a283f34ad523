"""The scores of predictions, in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from agreement import Arguments, Oracle, agrees, wide


def labels_fit(labels: np.ndarray, count: int) -> bool:
    return bool(np.all((labels >= 0) & (labels < count) & (labels == np.floor(labels))))


def accuracy(given: Arguments, result: Any) -> str:
    preds, targets = np.asarray(given["preds"]), np.asarray(given["targets"])
    if preds.shape != targets.shape or preds.ndim != 1 or not preds.size:
        return "a result for shapes that do not fit"
    return agrees(result, np.mean(preds == targets))


def probabilities(given: Arguments) -> tuple[np.ndarray, np.ndarray, str]:
    probs, targets = wide(given["probs"]), wide(given["targets"])
    if probs.ndim != 2 or targets.shape != probs.shape[:1] or not probs.size:
        return probs, targets, "a result for shapes that do not fit"
    if not labels_fit(targets, probs.shape[1]):
        return probs, targets, "a result for labels that are no classes"
    if given.get("log"):
        bad = np.any(probs > 0.01)
    else:
        bad = np.any((probs < -0.01) | (probs > 1.01) | (np.abs(probs.sum(1) - 1) > 0.02)[:, None])
    return probs, targets, "a result for rows that are no probabilities" if bad else ""


def negative_log_likelihood(given: Arguments, result: Any) -> str:
    probs, targets, fault = probabilities(given)
    if fault:
        return fault
    chosen = probs[np.arange(len(probs)), targets.astype(int)]
    with np.errstate(divide="ignore"):
        return agrees(result, -np.mean(chosen if given.get("log") else np.log(chosen)))


def brier_score(given: Arguments, result: Any) -> str:
    probs, targets, fault = probabilities(given)
    if fault:
        return fault
    one_hot = np.eye(probs.shape[1])[targets.astype(int)]
    return agrees(result, np.mean(np.sum((probs - one_hot) ** 2, axis=1)))


def bins(given: Arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    probs, targets, fault = probabilities(given)
    preds = wide(given["preds"])
    if fault or preds.shape != targets.shape:
        return probs, probs, probs, fault or "a result for shapes that do not fit"
    if np.any(preds != np.floor(preds)):
        return probs, probs, probs, "a result for predictions that are no classes"
    count = int(given.get("n_bins", 15))
    confidence = probs.max(axis=1)
    edges = np.linspace(0, 1, count + 1).astype(np.float32)
    index = np.clip(np.searchsorted(edges[1:-1], confidence.astype(np.float32), "left"), 0, count)
    weights = np.bincount(index)
    right = np.bincount(index, preds == targets)
    sure = np.bincount(index, confidence)
    return weights, right, sure, ""


def calibration_error(largest: bool) -> Oracle:
    def oracle(given: Arguments, result: Any) -> str:
        weights, right, sure, fault = bins(given)
        if fault:
            return fault
        gaps = np.abs(right - sure)
        held = weights > 0
        wanted = np.max(gaps[held] / weights[held]) if largest else gaps.sum() / weights.sum()
        return agrees(result, wanted, 2e-5)

    return oracle


def reliability_diagram(given: Arguments, result: Any) -> str:
    weights, right, _, fault = bins(given)
    if fault:
        return fault
    counts, right_found = wide(result.counts), wide(result.accuracy)
    held = np.flatnonzero(weights)
    same_counts = agrees(counts[: len(weights)], weights)
    return same_counts or agrees(right_found[held], right[held] / weights[held])


def rmse(given: Arguments, result: Any) -> str:
    preds, targets = wide(given["preds"]), wide(given["targets"])
    if preds.shape != targets.shape or preds.ndim not in (1, 2) or not preds.size:
        return "a result for shapes that do not fit"
    with np.errstate(over="ignore"):
        return agrees(result, np.sqrt(np.sum((preds - targets) ** 2) / len(preds)))


def coverage(given: Arguments, result: Any) -> str:
    low, high, y = (wide(given[name]) for name in ("lower_bounds", "upper_bounds", "targets"))
    if len({array.size for array in (low, high, y)}) > 1 or not y.size:
        return "a result for shapes that do not fit"
    low, high, y = low.ravel(), high.ravel(), y.ravel()
    return agrees(result, np.mean((low <= y) & (y <= high)))
