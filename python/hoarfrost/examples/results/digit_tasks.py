"""Digits that are rotated more and more, and digits of classes that training never saw."""

from __future__ import annotations

import numpy as np

from hoarfrost.examples.results.classifiers import METHODS, Points, fit_classifiers
from hoarfrost.examples.results.scores import UNKNOWN, Row, Scores, class_scores

ANGLES = tuple(range(0, 181, 15))
PRINTED_ANGLES = (0, 30, 60, 90, 180)
MEAN = "mean"
KNOWN = "known"
_SIDE = 8
_NUM_UNKNOWN = 3
_EPOCHS, _QUICK_EPOCHS = 100, 10
# Points of each kind that are scored in a quick run.
_QUICK_TEST = 150


def rotated_digits(seed: int, quick: bool) -> Scores:
    """Train on upright digits; score on test digits at every angle, and the mean over angles.

    Parameters
    ----------
    seed : int
        Of the split and the network.
    quick : bool
        Fewer epochs, and fewer digits to test.
    """
    images, targets = _load()
    train, validation, test = _split(images, targets, (800, 400), np.random.default_rng(seed))
    if quick:
        test = Points(*(part[:_QUICK_TEST] for part in test))
    predictors = fit_classifiers(train, validation, 10, seed, _QUICK_EPOCHS if quick else _EPOCHS)
    scores: dict[Row, dict[str, float]] = {}
    for angle in ANGLES:
        turned = _rotated(test.inputs, angle)
        for method in METHODS:
            found = class_scores(predictors[method](turned), test.targets)
            for name, value in found.items():
                scores.setdefault(Row(name, f"{angle}°"), {})[method] = value
    for name in ("NLL", "ECE", "Brier", "accuracy"):
        scores[Row(name, MEAN)] = {
            method: float(np.mean([scores[Row(name, f"{angle}°")][method] for angle in ANGLES]))
            for method in METHODS
        }
    return scores


def unknown_digits(seed: int, quick: bool) -> Scores:
    """Train on seven classes; score on them, and tell them from the three others by entropy.

    Parameters
    ----------
    seed : int
        Of the classes that are held out, the split and the network.
    quick : bool
        Fewer epochs, and fewer digits to test.
    """
    from sklearn.metrics import roc_auc_score

    images, targets = _load()
    generator = np.random.default_rng(seed)
    held_out = generator.choice(10, _NUM_UNKNOWN, replace=False)
    is_known = ~np.isin(targets, held_out)
    # Classes are numbered anew, without gaps.
    _, labels = np.unique(targets[is_known], return_inverse=True)
    known = images[is_known], labels.astype(np.int32)
    train, validation, test = _split(*known, (560, 280), generator)
    unknown = images[~is_known]
    if quick:
        test, unknown = Points(*(part[:_QUICK_TEST] for part in test)), unknown[:_QUICK_TEST]
    epochs = _QUICK_EPOCHS if quick else _EPOCHS
    predictors = fit_classifiers(train, validation, 10 - _NUM_UNKNOWN, seed, epochs)
    scores: dict[Row, dict[str, float]] = {}
    for method in METHODS:
        inside = predictors[method](test.inputs)
        outside = predictors[method](unknown)
        found = {
            Row(name, KNOWN): value for name, value in class_scores(inside, test.targets).items()
        }
        found[Row("confidence", KNOWN)] = _confidence(inside)
        found[Row("confidence", UNKNOWN)] = _confidence(outside)
        is_unknown = np.repeat([0, 1], [len(inside), len(outside)])
        entropy = np.concatenate([_entropy(inside), _entropy(outside)])
        found[Row("AUROC", "both")] = float(roc_auc_score(is_unknown, entropy))
        for row, value in found.items():
            scores.setdefault(row, {})[method] = value
    return scores


def is_printed(row: Row) -> bool:
    """Whether a row stands in the printed table of the rotations; the JSON holds all."""
    return row.where in (MEAN, *(f"{angle}°" for angle in PRINTED_ANGLES))


def _load() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), targets.astype(np.int32)


def _split(
    inputs: np.ndarray,
    targets: np.ndarray,
    sizes: tuple[int, int],
    generator: np.random.Generator,
) -> tuple[Points, Points, Points]:
    """Training and validation points, as many as asked for, and the others for the test."""
    order = generator.permutation(len(inputs))
    train, validation, test = (
        Points(inputs[part], targets[part]) for part in np.split(order, np.cumsum(sizes))
    )
    return train, validation, test


def _rotated(inputs: np.ndarray, angle: int) -> np.ndarray:
    """The images rotated about their centre, bilinearly, black where nothing was."""
    from scipy.ndimage import rotate

    images = inputs.reshape(-1, _SIDE, _SIDE)
    turned = rotate(images, angle, axes=(1, 2), reshape=False, order=1)
    return np.asarray(turned, np.float32).reshape(inputs.shape)


def _confidence(log_probs: np.ndarray) -> float:
    return float(np.exp(log_probs.max(axis=1)).mean(dtype=np.float64))


def _entropy(log_probs: np.ndarray) -> np.ndarray:
    entropy: np.ndarray = -(np.exp(log_probs) * log_probs).sum(axis=1)
    return entropy
