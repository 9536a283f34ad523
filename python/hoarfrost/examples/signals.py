"""What a posterior buys a network that is too sure: signals, by the number of labels there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.examples.classifier import (
    Classifier,
    Predictor,
    by_laplace,
    by_outputs,
    map_config,
    quiet_calibration,
)
from hoarfrost.examples.results.scores import class_scores
from hoarfrost.examples.signals_data import NUM_CLASSES, make_signals
from hoarfrost.prob_model import MAPPosteriorApproximator, ProbClassifier
from hoarfrost.progress import progress_bar

MAP, TEMPERATURE, LAPLACE = "MAP", "temperature scaling", "Laplace"
METHODS = (MAP, TEMPERATURE, LAPLACE)
SCORES = ("NLL", "ECE", "accuracy")
NUM_SEEDS = 3
NUM_TEST = 2000
# The number of labels at which the methods are held against each other, and those of the picture.
SHOWN = 1000
LABELS = (200, 500, SHOWN, 2000)
BATCH = 50
# One label of so many is held out for the temperature.
_HELD_OUT = 5


@dataclass(frozen=True)
class Signals:
    """What every method said of the test signals.

    Attributes
    ----------
    scores : mapping
        By the number of labels, the method and the score: one number a seed.
    probabilities : mapping
        At `SHOWN` labels, by the method: the test signals of all seeds, shape ``(S * N, C)``.
    targets : ndarray
        Their classes, shape ``(S * N,)``.
    """

    scores: Mapping[int, Mapping[str, Mapping[str, Sequence[float]]]]
    probabilities: Mapping[str, np.ndarray]
    targets: np.ndarray


def compare_on_signals(
    seed: int, epochs: int, labels: Sequence[int] = LABELS, num_seeds: int = NUM_SEEDS
) -> Signals:
    """Fit every method for several seeds and numbers of labels, and score it on 2,000 signals.

    A seed draws its own training and test signals and its own network; with fewer labels it trains
    on the first of the same signals.

    Parameters
    ----------
    seed : int
        Decides the seeds.
    epochs : int
        Passes over the training signals.
    labels : sequence of int
        How many training signals have a label: `SHOWN`, and others up to the last of `LABELS`.
    num_seeds : int
        S.
    """
    seeds = [int(one) for one in np.random.default_rng(seed).integers(2**31, size=num_seeds)]
    scores: dict[int, dict[str, dict[str, list[float]]]] = {
        count: {method: {score: [] for score in SCORES} for method in METHODS} for count in labels
    }
    shown: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    classes = []
    with progress_bar(description="Signals", total=len(seeds) * len(labels), unit="fit") as bar:
        for one in seeds:
            inputs, targets = make_signals(max(LABELS) + NUM_TEST, one)
            test, truth = inputs[-NUM_TEST:], targets[-NUM_TEST:]
            classes.append(truth)
            for count in labels:
                predictors = _fit_methods(inputs[:count], targets[:count], one, epochs)
                for method, predict in predictors.items():
                    log_probs = predict(test)
                    found = class_scores(log_probs, truth)
                    for score in SCORES:
                        scores[count][method][score].append(found[score])
                    if count == SHOWN:
                        shown[method].append(np.exp(log_probs))
                bar.update()
    together = {method: np.concatenate(parts) for method, parts in shown.items()}
    return Signals(scores, together, np.concatenate(classes))


def held_out(count: int) -> int:
    """How many of the labels temperature scaling keeps from the network."""
    return count // _HELD_OUT


@dataclass(frozen=True)
class Trained:
    """The networks of one seed and number of labels.

    Attributes
    ----------
    network : Classifier
        Their architecture.
    everything, kept, rest : DataLoader
        All training signals, those that a held-out fifth leaves, and that fifth in one batch.
    by_all, by_kept : ProbClassifier
        The MAP of all labels, and that of those kept with a temperature fitted to the rest.
    """

    network: Classifier
    everything: DataLoader
    kept: DataLoader
    rest: DataLoader
    by_all: ProbClassifier
    by_kept: ProbClassifier


def train_networks(inputs: np.ndarray, targets: np.ndarray, seed: int, epochs: int) -> Trained:
    """Train to the MAP of all the labels, and to that of four fifths; the last fifth calibrates.

    Parameters
    ----------
    inputs : ndarray
        Shape ``(N, 40)``.
    targets : ndarray
        Classes, shape ``(N,)``.
    seed : int
        Of the networks and the order of the batches.
    epochs : int
        Passes over the data.
    """
    network = Classifier(NUM_CLASSES)
    count = len(targets) - held_out(len(targets))
    everything = _loader(inputs, targets, seed)
    kept = _loader(inputs[:count], targets[:count], seed)
    # One batch: temperature scaling is a smooth problem in one number.
    rest = DataLoader.from_array_data((inputs[count:], targets[count:]))
    by_all, by_kept = (_map(network, loader, seed, epochs) for loader in (everything, kept))
    by_kept.calibrate(rest, calib_config=quiet_calibration())
    return Trained(network, everything, kept, rest, by_all, by_kept)


def baselines(trained: Trained) -> dict[str, Predictor]:
    """MAP and temperature scaling."""
    return {
        MAP: by_outputs(trained.by_all, None),
        TEMPERATURE: by_outputs(
            trained.by_kept, trained.by_kept.posterior.state.get().calib_params
        ),
    }


def map_params(model: ProbClassifier) -> Any:
    """The variables of a trained network."""
    return model.posterior.state.get().params["model"]


def _fit_methods(
    inputs: np.ndarray, targets: np.ndarray, seed: int, epochs: int
) -> dict[str, Predictor]:
    """The baselines, and Laplace over the last layer with its prior precision by the evidence."""
    trained = train_networks(inputs, targets, seed, epochs)
    posterior = hoarfrost.fit_laplace(
        trained.network,
        map_params(trained.by_all),
        trained.everything,
        trainable="last_layer",
        progress=False,
    )
    posterior.optimize_prior_precision()
    return {**baselines(trained), LAPLACE: by_laplace(posterior)}


def _map(network: Classifier, loader: DataLoader, seed: int, epochs: int) -> ProbClassifier:
    """Trained to its MAP under the front's own prior, a standard normal."""
    model = ProbClassifier(network, posterior_approximator=MAPPosteriorApproximator(), seed=seed)
    model.train(loader, fit_config=map_config(epochs))
    return model


def _loader(inputs: np.ndarray, targets: np.ndarray, seed: int) -> DataLoader:
    return DataLoader.from_array_data((inputs, targets), batch_size=BATCH, shuffle=True, seed=seed)
