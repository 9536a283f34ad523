"""Values of the wrong kind for the front's arguments: an error that names argument and value."""

from __future__ import annotations

import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model import (
    CalibCheckpointer,
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.training.options import check_gradient_options, check_optimizer

HUGE, ENDLESS = 10**400, 10**6000


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


class Unhashable:
    __hash__ = None

    def init(self, params):
        return ()

    def update(self, updates, state, params=None):
        return updates, state


ODD = [
    "1",
    b"1",
    [1],
    {"a": 1},
    1.5,
    float("nan"),
    True,
    -HUGE,
    np.array([1, 2]),
    jnp.ones((2, 2)),
    np.float32(1),
    1j,
    fractions.Fraction(1, 3),
    int,
    object(),
    Unprintable(),
    Ellipsis,
]
BIG = [HUGE, ENDLESS, 2**31, 2**64]
NOT_OPTIMIZERS = [
    *ODD,
    *BIG,
    None,
    optax.adam,
    optax.GradientTransformation,
    nn.Dense(2),
    np.random.default_rng(0),
    Unhashable(),
    lambda: None,
]
COUNTS = [
    (FitOptimizer, "n_epochs"),
    (CalibOptimizer, "n_epochs"),
    (FitMonitor, "early_stopping_patience"),
    (CalibMonitor, "early_stopping_patience"),
    (FitMonitor, "eval_every_n_epochs"),
    (CalibMonitor, "eval_every_n_epochs"),
    (FitCheckpointer, "keep_top_n_checkpoints"),
    (FitHyperparameters, "gradient_accumulation_steps"),
]
FLAGS = [
    (FitMonitor, "verbose"),
    (CalibMonitor, "verbose"),
    (FitMonitor, "disable_training_metrics_computation"),
    (CalibMonitor, "disable_calibration_metrics_computation"),
    (FitProcessor, "disable_jit"),
    (CalibProcessor, "disable_jit"),
    (FitCheckpointer, "start_from_current_state"),
    (FitCheckpointer, "dump_state"),
]
NUMBERS = [
    (FitMonitor, "early_stopping_min_delta"),
    (CalibMonitor, "early_stopping_min_delta"),
    (FitHyperparameters, "max_grad_norm"),
]
PARTS = [(FitConfig, name) for name in ["optimizer", "checkpointer", "monitor", "processor"]]
PARTS += [(CalibConfig, name) for name in ["optimizer", "checkpointer", "monitor", "processor"]]
PARTS += [(FitConfig, "hyperparameters")]


def refused(make, name, value):
    with pytest.raises(InvalidArgumentError) as raised:
        make(**{name: value})
    message = str(raised.value)
    assert message.startswith(name)
    assert len(message) < 500


def name_of(value):
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize(("make", "name"), COUNTS, ids=name_of)
def test_counts(make, name):
    for value in [*ODD, *BIG]:
        refused(make, name, value)


@pytest.mark.parametrize("name", ["n_posterior_samples", "devices"])
@pytest.mark.parametrize("value", range(len(ODD)))
def test_processors(name, value):
    refused(CalibProcessor, name, ODD[value])
    refused(FitProcessor, "devices", ODD[value])
    refused(FitProcessor, "devices", ENDLESS)


@pytest.mark.parametrize(("make", "name"), FLAGS, ids=name_of)
def test_switches(make, name):
    for value in ODD:
        if value is not True:
            refused(make, name, value)
    refused(make, name, 1)


@pytest.mark.parametrize(("make", "name"), NUMBERS, ids=name_of)
def test_numbers(make, name):
    for value in [*ODD, HUGE, ENDLESS, math.inf]:
        if isinstance(value, bool) or not isinstance(
            value, float | np.float32 | fractions.Fraction
        ):
            refused(make, name, value)
    for value in (math.nan, math.inf, -math.inf):
        refused(make, name, value)


@pytest.mark.parametrize("make", [FitOptimizer, CalibOptimizer])
def test_optimisers_that_are_none(make):
    for value in NOT_OPTIMIZERS:
        refused(make, "method", value)
    with pytest.raises(InvalidArgumentError, match="give an optax optimiser"):
        check_optimizer(Unhashable())
    make(method=optax.MultiSteps(optax.sgd(0.1), 2))


def test_gradient_options():
    for value in (HUGE, ENDLESS, "1", [1.0], np.array([1.0, 2.0]), math.nan):
        with pytest.raises(InvalidArgumentError, match="max_grad_norm is"):
            check_gradient_options(value, None)


@pytest.mark.parametrize(("make", "name"), PARTS, ids=name_of)
def test_parts(make, name):
    for value in [*ODD, None, FitConfig(), CalibConfig(), FitOptimizer, CalibOptimizer]:
        refused(make, name, value)


@pytest.mark.parametrize("make", [FitMonitor, CalibMonitor])
def test_what_is_watched(make):
    def named(predictions, targets):
        return 0.0

    named.__name__ = "loss"
    for value in [*ODD, None, HUGE, np.array(["val_loss", "val_loss"])]:
        refused(make, "early_stopping_monitor", value)
    for value in [*ODD, named, [named]]:
        refused(make, "metrics", value)
    for value in [value for value in ODD if value is not int]:
        with pytest.raises(InvalidArgumentError, match=r"^metrics\[0\]"):
            make(metrics=(value,))
    refused(make, "metrics", (named,))


def test_functions_and_callbacks():
    for value in [value for value in ODD if not callable(value)]:
        # One answer for every leaf, and an NNX filter that takes all, are selectors.
        if value is not True and value is not ...:
            refused(FitOptimizer, "freeze_fun", value)
        refused(CalibMonitor, "uncertainty_fn", value)
    for value in [*(v for v in ODD if not isinstance(v, list)), FitCallback(), {FitCallback()}]:
        refused(FitConfig, "callbacks", value)
    for value in [*ODD, None, FitCallback]:
        with pytest.raises(InvalidArgumentError, match=r"^callbacks\[0\]"):
            FitConfig(callbacks=[value])


@pytest.mark.parametrize("make", [FitCheckpointer, CalibCheckpointer])
def test_checkpoints(make):
    for name in ("save_checkpoint_dir", "save_every_n_steps", "restore_checkpoint_path"):
        for value in [*ODD, *BIG]:
            # Any text is a path.
            if not (isinstance(value, str) and name != "save_every_n_steps"):
                refused(make, name, value)
    for name in ("save_checkpoint_dir", "restore_checkpoint_path"):
        for value in ("", "a\0b"):
            refused(make, name, value)


def test_no_current_state_is_false():
    assert FitCheckpointer(start_from_current_state=None).start_from_current_state is False
    assert FitCheckpointer(start_from_current_state=None) == FitCheckpointer()


KEYS = [
    np.zeros(1, np.uint32),
    np.zeros(3, np.uint32),
    jnp.zeros((3,), jnp.uint32),
    np.zeros(0, np.uint32),
    np.zeros((2, 2), np.uint32),
    np.zeros(2, np.int32),
    jax.random.split(jax.random.key(0), 2),
    np.uint32,
]


@pytest.mark.parametrize("value", range(len(KEYS)))
def test_keys_of_another_length(value):
    with pytest.raises(InvalidArgumentError, match=r"(?s)seed is .*give an integer from 0"):
        ProbClassifier(nn.Dense(2), seed=KEYS[value])


def test_seeds():
    for value in [*ODD, ENDLESS, HUGE, 2**63]:
        refused(lambda **options: ProbClassifier(nn.Dense(2), **options), "seed", value)


@pytest.mark.parametrize("key", [jax.random.PRNGKey(3), jax.random.key(3), 3, np.int64(3)])
def test_keys_and_seeds_that_are_some(key):
    ProbClassifier(nn.Dense(2), seed=key)


@pytest.mark.parametrize("name", ["fit_config", "map_fit_config", "calib_config"])
@pytest.mark.parametrize("value", [3, "config", {"n_epochs": 2}, FitConfig, CalibOptimizer()])
def test_configs_of_a_training(name, value):
    x = np.zeros((4, 3), np.float32)
    data = [(x, np.array([0, 1, 0, 1]))]
    model = ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())
    with pytest.raises(InvalidArgumentError, match=f"{name} is a"):
        model.train(data, calib_data_loader=data, **{name: value})
    if name != "calib_config":
        with pytest.raises(InvalidArgumentError, match=f"{name} is a"):
            model.posterior.fit(data, **{name: value})
