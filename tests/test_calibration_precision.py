"""A calibration's loss is computed in float64, whatever the optimiser and the outputs."""

import jax
import numpy as np
import optax
import pytest

from hoarfrost.calibration import (
    CalibrationStatistics,
    OutputCalibrator,
    RegressionTemperatureScaler,
    fit_calibrator,
)
from hoarfrost.predictive import numbers

STATISTICS = CalibrationStatistics(numbers.log_prob, numbers.mean, numbers.variance)
CALIBRATOR = OutputCalibrator(RegressionTemperatureScaler())
VARIABLES = CALIBRATOR.init(2, jax.random.PRNGKey(0))
RNG = np.random.default_rng(0)


def fitted(outputs, targets, optimizer, n_epochs):
    batches = [(np.float32(outputs), targets)]
    return fit_calibrator(
        CALIBRATOR,
        VARIABLES,
        STATISTICS,
        batches,
        optimizer=optimizer,
        n_epochs=n_epochs,
        val_batches=batches,
        verbose=False,
    )


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.lbfgs(), optax.sgd(0.3)])
def test_the_temperature_of_a_known_scale(optimizer):
    targets = 3 * RNG.normal(size=50)
    result = fitted(np.zeros((1, 50, 2)), targets, optimizer, 200)
    # One Gaussian: the best log-variance is that of the targets.
    expected = np.log(np.mean(targets**2))
    found = result.variables["params"]["log_temp"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    np.testing.assert_allclose(
        result.status["val_loss"][-1], (expected + np.log(2 * np.pi) + 1) / 2, rtol=1e-5
    )


def test_targets_that_float32_rounds():
    # Means of 2^24, targets one above: in float32 they are the same number.
    outputs = np.stack([np.full((1, 8), 2.0**24), np.zeros((1, 8))], axis=-1)
    losses = fitted(outputs, np.full(8, 2.0**24 + 1), optax.sgd(0.0), 1).status
    expected = 0.5 + np.log(2 * np.pi) / 2
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(losses[name], expected, rtol=1e-6)


def test_variances_that_float32_does_not_have():
    outputs = np.stack([np.zeros((1, 8)), np.full((1, 8), -95.0)], axis=-1)
    losses = fitted(outputs, np.full(8, 1e-3), optax.sgd(0.0), 1).status
    log_variance = np.float64(np.float32(-95.0))
    expected = (1e-6 * np.exp(-log_variance) + log_variance + np.log(2 * np.pi)) / 2
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-6)
