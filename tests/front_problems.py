"""Models of the front whose outputs have positions, beside the same ones of single points."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from token_problems import COUNTED, LABELS, RNG, TARGETS, C, N, T, X, rows

from hoarfrost.data import DataLoader
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

ADAM = optax.adam(1e-2)
STILL = optax.sgd(0.0)
D = 2
NUMBERS = TARGETS["gaussian"][..., :D]
PIXELS = RNG.standard_normal((N, 2, 3, 4)).astype(np.float32)
PIXEL_LABELS = RNG.integers(0, C, (N, 2, 3))
PIXELS_COUNTED = RNG.random((N, 2, 3)) < 0.6
PIXELS_COUNTED[2] = False


class Each(nn.Module):
    """The same at every position, or of a point."""

    width: int = C

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, name="head")(jnp.tanh(nn.Dense(6, name="body")(x)))


def config(method=ADAM, n_epochs=3, freeze_fun=None, again=False, **monitor):
    return FitConfig(
        FitOptimizer(method=method, n_epochs=n_epochs, freeze_fun=freeze_fun),
        FitCheckpointer(start_from_current_state=again),
        monitor=FitMonitor(verbose=False, **monitor),
    )


def head_only(path, value):
    return "trainable" if "head" in path else "frozen"


def classifier(laplace=True, **options):
    approximator = (
        LaplacePosteriorApproximator(tune_prior_log_variance=False)
        if laplace
        else MAPPosteriorApproximator()
    )
    return ProbClassifier(Each(), posterior_approximator=approximator, **options)


def regressor(laplace=True, width=D):
    approximator = (
        LaplacePosteriorApproximator(tune_prior_log_variance=False)
        if laplace
        else MAPPosteriorApproximator()
    )
    return ProbRegressor(Each(width), Each(width), posterior_approximator=approximator)


def as_targets(y, counted, way):
    """Targets of which some do not count, in one of the ways to say it; the model's options."""
    if way == "all":
        return y, {}
    if way == "label":
        return np.where(counted, y, -100), {"ignored_label": -100}
    y = np.where(counted.reshape(*counted.shape, *(1,) * (y.ndim - counted.ndim)), y, 99)
    return (y.astype(y.dtype), counted), {}


def log_softmax(outputs):
    outputs = np.asarray(outputs, np.float64)
    return outputs - np.log(np.exp(outputs).sum(axis=-1, keepdims=True))


def log_prior(params):
    """Of a standard normal."""
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)]).astype(np.float64)
    return -0.5 * flat @ flat - len(flat) / 2 * math.log(2 * math.pi)


def counted_positions(way, counted):
    return np.ones_like(counted) if way == "all" else counted


__all__ = [
    "ADAM",
    "COUNTED",
    "LABELS",
    "NUMBERS",
    "PIXELS",
    "PIXELS_COUNTED",
    "PIXEL_LABELS",
    "STILL",
    "C",
    "D",
    "DataLoader",
    "Each",
    "N",
    "T",
    "X",
    "as_targets",
    "classifier",
    "config",
    "counted_positions",
    "head_only",
    "log_prior",
    "log_softmax",
    "regressor",
    "rows",
]
