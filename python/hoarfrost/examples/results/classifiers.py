"""Six ways to class probabilities from one trained network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.examples.classifier import (
    BATCH,
    Classifier,
    Predictor,
    by_laplace,
    by_outputs,
    map_config,
    quiet_calibration,
)
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)

MAP, TEMPERATURE = "MAP", "Temp. scaling"
DIAGONAL, EVIDENCE, VALIDATION = "Laplace diag.", "Laplace evid.", "Laplace val."
TEMPERED = "Laplace val. T"
BASELINES = (MAP, TEMPERATURE)
LAPLACES = (DIAGONAL, EVIDENCE, VALIDATION, TEMPERED)
METHODS = (*BASELINES, *LAPLACES)


class Points(NamedTuple):
    """Inputs, axis 0 over the points, and their targets."""

    inputs: np.ndarray
    targets: np.ndarray


def fit_classifiers(
    train: Points, validation: Points, num_classes: int, seed: int, epochs: int
) -> dict[str, Predictor]:
    """Train one network to its MAP; every method starts from it.

    Parameters
    ----------
    train, validation : Points
        All methods see the training points. The validation points are seen by temperature scaling
        and by the last two of Laplace alone.
    num_classes : int
        C.
    seed : int
        Of the network and the order of the batches.
    epochs : int
        Passes over the training points.
    """
    train_loader = DataLoader.from_array_data(train, batch_size=BATCH, shuffle=True, seed=seed)
    validation_loader = DataLoader.from_array_data(validation, batch_size=BATCH)
    network = Classifier(num_classes)
    model = ProbClassifier(network, posterior_approximator=MAPPosteriorApproximator(), seed=seed)
    model.train(train_loader, fit_config=map_config(epochs))
    trained = model.posterior.state.get()
    # One batch: temperature scaling is a smooth problem in one number.
    in_one = DataLoader.from_array_data(validation)
    model.calibrate(in_one, calib_config=quiet_calibration())
    diagonal, evidence = (
        hoarfrost.fit_laplace(
            network,
            trained.params["model"],
            train_loader,
            trainable=head_only,
            hessian_structure=structure,  # type: ignore[arg-type]
            progress=False,
        )
        for structure in ("diag", "full")
    )
    diagonal.optimize_prior_precision()
    evidence.optimize_prior_precision()
    tuned = ProbClassifier(
        network,
        posterior_approximator=LaplacePosteriorApproximator(hessian_structure="full"),
        seed=seed,
    )
    tuned.posterior.state.put(trained)
    tuned.train(
        train_loader,
        val_data_loader=validation_loader,
        fit_config=FitConfig(
            optimizer=FitOptimizer(freeze_fun=_head_only_of_the_model),
            checkpointer=FitCheckpointer(start_from_current_state=True),
            monitor=FitMonitor(verbose=False),
        ),
    )
    return {
        MAP: by_outputs(model, None),
        TEMPERATURE: by_outputs(model, model.posterior.state.get().calib_params),
        DIAGONAL: by_laplace(diagonal),
        EVIDENCE: by_laplace(evidence),
        VALIDATION: by_laplace(tuned.posterior.laplace),
        TEMPERED: by_laplace(tempered_on(validation_loader, tuned.posterior.laplace)),
    }


def head_only(path: Sequence[str | int], value: Any) -> bool:
    """Whether a leaf belongs to the last layer."""
    return "head" in path


def tempered_on(loader: DataLoader, posterior: hoarfrost.Laplace) -> hoarfrost.Laplace:
    """The posterior with prior precision and temperature chosen on validation data."""
    tempered = copy.copy(posterior)
    with warnings.catch_warnings():
        # Where the MAP predicts such data best, both go as far as they may.
        warnings.filterwarnings("ignore", "the .* lies at a bound")
        tempered.optimize_on(loader, ("prior_precision", "temperature"), low=1e-3, high=1e3)
    return tempered


def _head_only_of_the_model(path: Sequence[str | int], value: Any) -> str:
    return "trainable" if head_only(path, value) else "frozen"
