"""Six ways to class probabilities from one trained network."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn

import hoarfrost
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.prob_model import (
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
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

BATCH = 100
# From inputs (N, ...) to log-probabilities (N, C).
Predictor = Callable[[np.ndarray], np.ndarray]


class Points(NamedTuple):
    """Inputs, axis 0 over the points, and their targets."""

    inputs: np.ndarray
    targets: np.ndarray


class DigitNet(nn.Module):  # type: ignore[misc]
    """Two hidden layers of ReLU and a head."""

    num_classes: int

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logits, shape ``(B, num_classes)``."""
        hidden = nn.relu(nn.Dense(256, name="hidden1")(inputs))
        hidden = nn.relu(nn.Dense(128, name="hidden2")(hidden))
        logits: jax.Array = nn.Dense(self.num_classes, name="head")(hidden)
        return logits


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
    network = DigitNet(num_classes)
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
        MAP: _by_outputs(model, None),
        TEMPERATURE: _by_outputs(model, model.posterior.state.get().calib_params),
        DIAGONAL: _by_laplace(diagonal),
        EVIDENCE: _by_laplace(evidence),
        VALIDATION: _by_laplace(tuned.posterior.laplace),
        TEMPERED: _by_laplace(tempered_on(validation_loader, tuned.posterior.laplace)),
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


def map_config(epochs: int, patience: int = 0) -> FitConfig:
    """How a MAP is trained here; with `patience`, until validation data tell it to stop."""
    return FitConfig(
        optimizer=FitOptimizer(method=_adam(), n_epochs=epochs),
        monitor=FitMonitor(verbose=False, early_stopping_patience=patience),
    )


def quiet_calibration() -> CalibConfig:
    """Temperature scaling with steps enough to arrive from a temperature that is far off."""
    return CalibConfig(
        optimizer=CalibOptimizer(method=_steps_of_temperature(), n_epochs=300),
        monitor=CalibMonitor(verbose=False),
    )


@functools.cache
def _adam() -> optax.GradientTransformation:
    """One optimiser, so that its steps are compiled once."""
    return optax.adam(3e-3)


@functools.cache
def _steps_of_temperature() -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(0.1, 300))


def _head_only_of_the_model(path: Sequence[str | int], value: Any) -> str:
    return "trainable" if head_only(path, value) else "frozen"


def _by_outputs(model: ProbClassifier, calib_params: Any) -> Predictor:
    state = model.posterior.state.get()

    def predict(inputs: np.ndarray) -> np.ndarray:
        loader = InputsLoader.from_array_inputs(inputs, batch_size=BATCH)
        logits = model.likelihood.get_calibrated_outputs(
            state.params, loader, calib_params=calib_params
        )
        return np.asarray(jax.nn.log_softmax(logits, axis=1))

    return predict


def _by_laplace(posterior: hoarfrost.Laplace) -> Predictor:
    def predict(inputs: np.ndarray) -> np.ndarray:
        loader = InputsLoader.from_array_inputs(inputs, batch_size=BATCH)
        log_probs: np.ndarray = posterior.predict(loader, link="probit", log=True)
        return log_probs

    return predict
