"""Signals by their number of labels, and with labels that are wrong: every method on the head."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.examples.classifier import HiddenLayers, Predictor, by_laplace
from hoarfrost.examples.methods.fits import EVIDENCE, FITS, HEAD, LAPLACE, predictions
from hoarfrost.examples.methods.problem import Problem
from hoarfrost.examples.results.scores import Row, Scores, class_scores
from hoarfrost.examples.signals import (
    MAP,
    NUM_TEST,
    SHOWN,
    TEMPERATURE,
    Trained,
    baselines,
    map_params,
    train_networks,
)
from hoarfrost.examples.signals_data import NUM_CLASSES, make_signals
from hoarfrost.laplace.structure.registry import NAMES

LABELS, QUICK_LABELS = (100, 200, 500, SHOWN, 2000, 3000), (100,)
# "dual" is the same posterior as "full".
STRUCTURES = tuple(name for name in NAMES if name != "dual")
LAPLACES = tuple(f"{name}, {by}" for name in STRUCTURES for by in ("evidence", "validation"))
BASELINES = (MAP, TEMPERATURE)
# Laplace is here by its structures.
OTHERS = tuple(name for name in FITS if name not in (LAPLACE, EVIDENCE))
METHODS = (*BASELINES, *LAPLACES, *OTHERS)
WRONG = 0.2
TRUE, GIVEN = "true", "as given"
_SCORES = ("NLL", "ECE", "accuracy")
_EPOCHS, _QUICK_EPOCHS = 100, 5
_QUICK_TEST = 200


def signals(seed: int, quick: bool) -> Scores:
    """Train with more and more of the same labels; score on 2,000 signals.

    Parameters
    ----------
    seed : int
        Of the signals, the networks and all that is drawn.
    quick : bool
        Few labels and epochs, and fewer signals to test.
    """
    inputs, targets = make_signals(max(LABELS) + NUM_TEST, seed)
    size = _QUICK_TEST if quick else NUM_TEST
    test, truth = inputs[-size:], targets[-size:]
    scores: dict[Row, dict[str, float]] = {}
    for count in QUICK_LABELS if quick else LABELS:
        predictors = _fit(inputs[:count], targets[:count], seed, quick)
        _put(scores, f"{count:,}", predictors, test, truth)
    return scores


def wrong_labels(seed: int, quick: bool) -> Scores:
    """Train with labels of which a fifth is wrong, as are those held out for validation.

    Parameters
    ----------
    seed : int
        Of the signals, the wrong labels, the networks and all that is drawn.
    quick : bool
        Few labels and epochs, and fewer signals to test.
    """
    count, size = (QUICK_LABELS[0], _QUICK_TEST) if quick else (SHOWN, NUM_TEST)
    inputs, truth = make_signals(max(LABELS) + NUM_TEST, seed)
    generator = np.random.default_rng(seed)
    given = spoilt(truth, WRONG, generator)
    predictors = _fit(inputs[:count], given[:count], seed, quick)
    scores: dict[Row, dict[str, float]] = {}
    for where, targets in ((TRUE, truth), (GIVEN, given)):
        _put(scores, where, predictors, inputs[-size:], targets[-size:])
    return scores


def spoilt(targets: np.ndarray, part: float, generator: np.random.Generator) -> np.ndarray:
    """Classes of which about this part has given way to another one, any of them as likely."""
    wrong = generator.random(len(targets)) < part
    shift = generator.integers(1, NUM_CLASSES, len(targets))
    return np.where(wrong, (targets + shift) % NUM_CLASSES, targets).astype(targets.dtype)


def _fit(inputs: np.ndarray, targets: np.ndarray, seed: int, quick: bool) -> dict[str, Predictor]:
    """Every method of `METHODS`, those by validation and the temperature from fewer labels."""
    epochs = _QUICK_EPOCHS if quick else _EPOCHS
    trained = train_networks(inputs, targets, seed, epochs)
    predictors = baselines(trained)
    for name in STRUCTURES:
        predictors[f"{name}, evidence"] = by_laplace(_by_evidence(trained, name))
        predictors[f"{name}, validation"] = by_laplace(_by_validation(trained, name))
    problem = _problem(trained, inputs, epochs)
    for name in OTHERS:
        predictors[name], _ = predictions(FITS[name](problem, HEAD, seed, quick), problem)
    return predictors


def _by_evidence(trained: Trained, structure: str) -> hoarfrost.Laplace:
    posterior = _laplace(trained, map_params(trained.by_all), trained.everything, structure)
    posterior.optimize_prior_precision()
    return posterior


def _by_validation(trained: Trained, structure: str) -> hoarfrost.Laplace:
    posterior = _laplace(trained, map_params(trained.by_kept), trained.kept, structure)
    with warnings.catch_warnings():
        # Where the MAP predicts the held-out labels best, the prior goes as far as it may.
        warnings.filterwarnings("ignore", "the .* lies at a bound")
        posterior.optimize_on(trained.rest)
    return posterior


def _laplace(
    trained: Trained, params: object, loader: DataLoader, structure: str
) -> hoarfrost.Laplace:
    return hoarfrost.fit_laplace(
        trained.network,
        params,
        loader,
        trainable="last_layer",
        hessian_structure=structure,  # type: ignore[arg-type]
        progress=False,
    )


def _problem(trained: Trained, inputs: np.ndarray, epochs: int) -> Problem:
    params = map_params(trained.by_all)
    hidden = {name: leaf for name, leaf in params["params"].items() if name != "head"}
    body, body_params = HiddenLayers(), {"params": hidden}
    step = 1 / largest_curvature(np.asarray(body.apply(body_params, inputs)))
    return Problem(
        network=trained.network,
        params=params,
        body=body,
        body_params=body_params,
        outputs=NUM_CLASSES,
        likelihood="categorical",
        train=trained.everything,
        epochs=epochs,
        step=step,
        rate=step,
    )


def largest_curvature(features: np.ndarray) -> float:
    """No curvature of a softmax head is above half that of its features (Böhning, 1992)."""
    ones = np.ones((len(features), 1))
    with_bias = np.concatenate([features, ones], axis=1, dtype=np.float64)
    return 1 + 0.5 * float(np.linalg.norm(with_bias, 2)) ** 2


def _put(
    scores: dict[Row, dict[str, float]],
    where: str,
    predictors: Mapping[str, Predictor],
    inputs: np.ndarray,
    targets: np.ndarray,
) -> None:
    for method in METHODS:
        found = class_scores(predictors[method](inputs), targets)
        for name in _SCORES:
            scores.setdefault(Row(name, where), {})[method] = found[name]
