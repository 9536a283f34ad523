"""A small classifier, how the examples train it, and how they ask it for probabilities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

import hoarfrost
from hoarfrost.data import InputsLoader
from hoarfrost.prob_model import (
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    ProbClassifier,
)

BATCH = 100
# From inputs (N, ...) to log-probabilities (N, C).
Predictor = Callable[[np.ndarray], np.ndarray]


class Classifier(nn.Module):  # type: ignore[misc]
    """Two hidden layers of ReLU and a head."""

    num_classes: int

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Logits, shape ``(B, num_classes)``."""
        logits: jax.Array = nn.Dense(self.num_classes, name="head")(_hidden(inputs))
        return logits


class HiddenLayers(nn.Module):  # type: ignore[misc]
    """A `Classifier` without its head, with parameters of the same names."""

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Features of the head, shape ``(B, 128)``."""
        return _hidden(inputs)


def _hidden(inputs: jax.Array) -> jax.Array:
    """The hidden layers of the module in which this is called."""
    hidden = nn.relu(nn.Dense(256, name="hidden1")(inputs))
    return nn.relu(nn.Dense(128, name="hidden2")(hidden))


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


def by_outputs(model: ProbClassifier, calib_params: Any) -> Predictor:
    """The network's own log-probabilities, at a temperature where there is one."""
    state = model.posterior.state.get()

    def predict(inputs: np.ndarray) -> np.ndarray:
        loader = InputsLoader.from_array_inputs(inputs, batch_size=BATCH)
        logits = model.likelihood.get_calibrated_outputs(
            state.params, loader, calib_params=calib_params
        )
        return np.asarray(jax.nn.log_softmax(logits, axis=1))

    return predict


def by_laplace(posterior: hoarfrost.Laplace) -> Predictor:
    """Log-probabilities under the posterior, by the probit link."""

    def predict(inputs: np.ndarray) -> np.ndarray:
        loader = InputsLoader.from_array_inputs(inputs, batch_size=BATCH)
        log_probs: np.ndarray = posterior.predict(loader, link="probit", log=True)
        return log_probs

    return predict
