"""What calibration and validation cannot use is said before the first epoch."""

from __future__ import annotations

import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import (
    DataError,
    InvalidArgumentError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
)
from hoarfrost.prob_model import (
    CalibConfig,
    CalibProcessor,
    FitCallback,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

RNG = np.random.default_rng(1)
X = RNG.standard_normal((24, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
LATE = np.arange(24) == 20
LABELS = np.where(LATE, 2, Y)
HOLES = np.where(LATE[:, None], np.nan, X)
DATA = DataLoader.from_array_data((X, Y), batch_size=8)


def loader(inputs, targets):
    return DataLoader.from_array_data((inputs, targets), batch_size=8)


def batches(inputs, targets):
    return [(inputs[i : i + 8], targets[i : i + 8]) for i in range(0, len(targets), 8)]


class Widens(nn.Module):
    @nn.compact
    def __call__(self, outputs):
        return nn.Dense(3)(outputs)


class Bare(nn.Module):
    def __call__(self, outputs):
        return outputs


class Counts(nn.Module):
    @nn.compact
    def __call__(self, outputs):
        self.variable("state", "seen", lambda: np.zeros(()))
        return outputs * self.param("scale", nn.initializers.ones, (1,))


def many(n):
    return CalibConfig(processor=CalibProcessor(n_posterior_samples=n))


class Steps(FitCallback):
    """How many steps were made."""

    def __init__(self):
        self.made = 0

    def training_step_end(self, state):
        self.made += 1
        return state


CASES = {
    "calibration label": ({"calib_data_loader": loader(X, LABELS)}, {}, InvalidArgumentError),
    "calibration label in a list": (
        {"calib_data_loader": batches(X, LABELS)},
        {},
        InvalidArgumentError,
    ),
    "calibration input": ({"calib_data_loader": loader(HOLES, Y)}, {}, NonFiniteError),
    "calibration width": ({"calib_data_loader": loader(X[:, :2], Y)}, {}, ShapeError),
    "calibration data are inputs": (
        {"calib_data_loader": InputsLoader.from_array_inputs(X)},
        {},
        InvalidArgumentError,
    ),
    "calibration data are an array": ({"calib_data_loader": X}, {}, InvalidArgumentError),
    "no calibration data": ({"calib_data_loader": []}, {}, DataError),
    "calibration config": (
        {"calib_data_loader": DATA, "calib_config": FitConfig()},
        {},
        InvalidArgumentError,
    ),
    "calibrator without parameters": (
        {"calib_data_loader": DATA},
        {"output_calibrator": Bare()},
        InvalidArgumentError,
    ),
    "calibrator with a state": (
        {"calib_data_loader": DATA},
        {"output_calibrator": Counts()},
        InvalidArgumentError,
    ),
    "calibrator that widens": (
        {"calib_data_loader": DATA},
        {"output_calibrator": Widens()},
        ShapeError,
    ),
    "validation label": ({"val_data_loader": loader(X, LABELS)}, {}, InvalidArgumentError),
    "validation input": ({"val_data_loader": loader(HOLES, Y)}, {}, NonFiniteError),
    "validation data are targets": (
        {"val_data_loader": TargetsLoader.from_array_targets(Y)},
        {},
        InvalidArgumentError,
    ),
    "training data are targets": (
        {"train_data_loader": TargetsLoader.from_array_targets(Y)},
        {},
        InvalidArgumentError,
    ),
    "training data are a class": ({"train_data_loader": DataLoader}, {}, InvalidArgumentError),
    "training data are bytes": ({"train_data_loader": b"data"}, {}, InvalidArgumentError),
}


@pytest.mark.parametrize("laplace", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_trained_before_it_is_said(case, laplace):
    arguments, options, error = CASES[case]
    steps = Steps()
    config = FitConfig(
        FitOptimizer(optax.sgd(1e-3), 2), monitor=FitMonitor(verbose=False), callbacks=[steps]
    )
    approximator = LaplacePosteriorApproximator() if laplace else MAPPosteriorApproximator()
    model = ProbClassifier(nn.Dense(2), posterior_approximator=approximator, **options)
    settings = {"map_fit_config" if laplace else "fit_config": config}
    with pytest.raises(error):
        model.train(**{"train_data_loader": DATA, **settings, **arguments})
    assert steps.made == 0
    assert model.posterior.state.is_empty


def test_more_draws_than_memory_holds_are_refused_before_training():
    steps = Steps()
    config = FitConfig(
        FitOptimizer(optax.sgd(1e-3), 1), monitor=FitMonitor(verbose=False), callbacks=[steps]
    )
    model = ProbClassifier(nn.Dense(2))
    with pytest.raises(MemoryLimitError, match="lower n_posterior_samples"):
        model.train(DATA, calib_data_loader=DATA, calib_config=many(10**9), map_fit_config=config)
    assert steps.made == 0


def test_validation_data_that_laplace_alone_uses_are_looked_at_first():
    steps = Steps()
    config = FitConfig(
        FitOptimizer(optax.sgd(1e-3), 1),
        monitor=FitMonitor(verbose=False, eval_every_n_epochs=0),
        callbacks=[steps],
    )
    with pytest.raises(InvalidArgumentError, match="targets of batch 2 hold the label 2"):
        ProbClassifier(nn.Dense(2)).train(DATA, loader(X, LABELS), map_fit_config=config)
    assert steps.made == 0


def test_regression_targets_for_calibration_are_looked_at_first():
    steps = Steps()
    config = FitConfig(
        FitOptimizer(optax.sgd(1e-3), 1), monitor=FitMonitor(verbose=False), callbacks=[steps]
    )
    numbers = X[:, :1]
    model = ProbRegressor(nn.Dense(1), nn.Dense(1))
    bad = loader(X, np.where(LATE[:, None], np.inf, numbers))
    with pytest.raises(NonFiniteError):
        model.train(loader(X, numbers), calib_data_loader=bad, map_fit_config=config)
    assert steps.made == 0


def test_what_is_checked_first_changes_no_number():
    """The checks draw no key of the model's, and a calibration is that of a call of its own."""
    config = FitConfig(FitOptimizer(optax.sgd(1e-3), 2), monitor=FitMonitor(verbose=False))
    found = []
    for at_once in (True, False):
        model = ProbClassifier(nn.Dense(2))
        data = {"calib_data_loader": DATA} if at_once else {}
        model.train(DATA, map_fit_config=config, **data)
        if not at_once:
            model.calibrate(DATA)
        found.append(
            np.asarray(
                model.posterior.state.get().calib_params["output_calibrator"]["params"]["log_temp"]
            )
        )
    np.testing.assert_array_equal(*found)
