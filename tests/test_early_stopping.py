"""Which model early stopping keeps: the best one by the direction of the score."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost import metric
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.metric import accuracy
from hoarfrost.prob_model import (
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    FitCallback,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.training import EarlyStopping
from hoarfrost.training.monitor import Watch, resolve_mode

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 2)).astype(np.float32)
Y = (X @ [1.0, 1.0] > 0).astype(int)
TRAIN = DataLoader.from_array_data((X[:100], Y[:100]), batch_size=20)
VAL = DataLoader.from_array_data((X[100:], Y[100:]), batch_size=20)
UP = ("accuracy", "accuracy_score", "coverage", "picp", "prediction_interval_coverage_probability")
DOWN = set(metric.__all__) - {*UP, "ReliabilityDiagram", "reliability_diagram"}


class Keeps(FitCallback):
    """The parameters after each epoch."""

    def __init__(self):
        self.params = []

    def training_epoch_end(self, state):
        self.params.append(state.params)
        return state


def mine(predictions, targets):
    """A user's score, better the larger it is."""
    return float(accuracy(predictions, targets))


def mistakes(predictions, targets):
    """A user's score, better the smaller it is."""
    return 1 - float(accuracy(predictions, targets))


def score_of(params):
    """Accuracy on the validation data, computed here."""
    kernel, bias = (np.asarray(params["model"]["params"][k]) for k in ("kernel", "bias"))
    return np.mean(np.argmax(X[100:] @ kernel + bias, axis=1) == Y[100:])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("function", "mode"), [(accuracy, None), (accuracy, "max"), (mine, "max"), (mistakes, None)]
)
def test_the_model_of_the_largest_accuracy_is_kept(function, mode, seed):
    keeps = Keeps()
    monitor = FitMonitor(
        metrics=(function,),
        early_stopping_patience=3,
        early_stopping_monitor=f"val_{function.__name__}",
        verbose=False,
        mode=mode,
    )
    # Steps so long that the accuracy goes up and down.
    optimizer = FitOptimizer(optax.sgd(0.02), 12)
    model = ProbClassifier(
        nn.Dense(2), posterior_approximator=MAPPosteriorApproximator(), seed=seed
    )
    status = model.train(
        TRAIN, VAL, fit_config=FitConfig(optimizer, monitor=monitor, callbacks=[keeps])
    )
    recorded = status["fit_status"][f"val_{function.__name__}"]
    scores = [score_of(params) for params in keeps.params]
    signs = -1 if function is mistakes else 1
    np.testing.assert_allclose(
        recorded, scores if signs == 1 else 1 - np.asarray(scores), atol=1e-6
    )
    kept = model.posterior.state.get()
    assert score_of(kept.params) == max(scores) > min(scores)
    # The first of the best epochs; patience counts those after it.
    best = int(np.argmax(scores))
    for one, other in zip(*map(jax.tree.leaves, (kept.params, keeps.params[best])), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(kept.step) == 5 * (best + 1)
    assert (kept.opt_state is None) == (best + 1 < 12)


def test_calibration_keeps_the_largest_too():
    model = ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())
    quiet = FitMonitor(verbose=False)
    model.train(TRAIN, fit_config=FitConfig(FitOptimizer(optax.sgd(0.01), 3), monitor=quiet))

    def confidence(predictions, uncertainties, targets):
        return float(jnp.max(uncertainties, axis=-1).mean())

    found = {}
    for mode in ("min", "max"):
        monitor = CalibMonitor(
            metrics=(confidence,),
            early_stopping_patience=9,
            early_stopping_monitor="val_confidence",
            verbose=False,
            mode=mode,
        )
        config = CalibConfig(optimizer=CalibOptimizer(optax.sgd(1.0), 5), monitor=monitor)
        recorded = model.calibrate(TRAIN, VAL, config)["val_confidence"]
        means = model.predictive.mean(VAL.to_inputs_loader())
        found[mode] = float(np.max(np.asarray(means), axis=-1).mean())
        best = max(recorded) if mode == "max" else min(recorded)
        np.testing.assert_allclose(found[mode], best, rtol=1e-5)
    assert found["min"] < found["max"]


@pytest.mark.parametrize("prefix", ["", "val_"])
def test_known_scores_have_a_direction(prefix):
    assert {name: resolve_mode(prefix + name, None) for name in UP} == dict.fromkeys(UP, "max")
    assert {name: resolve_mode(prefix + name, None) for name in DOWN} == dict.fromkeys(DOWN, "min")
    assert resolve_mode(f"{prefix}loss", None) == "min"
    assert resolve_mode(f"{prefix}mine", None) == "min"
    assert resolve_mode(f"{prefix}mine", "max") == "max"


@pytest.mark.parametrize("make", [FitMonitor, CalibMonitor])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "largest"}, "mode must be 'min', 'max' or None, but it is 'largest'"),
        ({"mode": ["max"]}, r"mode must be 'min', 'max' or None, but it is \['max'\]"),
        ({"mode": np.array(["max", "min"])}, "mode must be 'min', 'max' or None"),
        ({"mode": "max"}, "mode is 'max', but val_loss is better the smaller it is"),
        (
            {"mode": "min", "metrics": (accuracy,), "early_stopping_monitor": "val_accuracy"},
            "mode is 'min', but val_accuracy is better the larger it is; leave mode out",
        ),
    ],
)
def test_modes_that_cannot_be(make, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make(**options)


@pytest.mark.parametrize("monitor", ["val_accuracy", "val_loss"])
def test_a_nan_is_never_the_best(monitor):
    watch = Watch(EarlyStopping(2, monitor))
    assert not watch.improved(float("nan"))
    assert watch.improved(0.5)
    assert not watch.improved(float("nan"))
    assert watch.out_of_patience is False
    assert watch.improved(0.6) == (monitor == "val_accuracy")


def test_patience_without_validation_data_is_a_warning():
    model = ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())
    config = FitConfig(
        FitOptimizer(optax.sgd(0.02), 3),
        monitor=FitMonitor(verbose=False, early_stopping_patience=1, early_stopping_min_delta=1e6),
    )
    with pytest.warns(UserWarning, match="early_stopping_patience is 1, but there is no val_data"):
        status = model.train(TRAIN, fit_config=config)
    assert status["fit_status"]["loss"].shape == (3,)
