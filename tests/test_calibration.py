"""Temperature scaling against closed forms, and the configuration of calibration."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost import metric
from hoarfrost.calibration import (
    CalibrationStatistics,
    ClassificationTemperatureScaler,
    OutputCalibrator,
    RegressionTemperatureScaler,
    fit_calibrator,
)
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, NotFittedError, ShapeError
from hoarfrost.predictive import classes, numbers
from hoarfrost.prob_model import (
    CalibCheckpointer,
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 3)).astype(np.float32)
# The label is the sign of the first input, but for a quarter of the points.
Y = ((X[:, 0] > 0) ^ (RNG.random(60) < 0.25)).astype(int)
Z = (2 * X[:, :1] + RNG.normal(size=(60, 1))).astype(np.float32)
CLASSES = DataLoader.from_array_data((X, Y), batch_size=25)
NUMBERS = DataLoader.from_array_data((X, Z), batch_size=25)
INPUTS = CLASSES.to_inputs_loader()
KEY = jax.random.PRNGKey(5)
ADAM = optax.adam(1e-2)
WILD = optax.sgd(np.nan)
FAST = optax.adam(0.1)
QUIET = FitMonitor(verbose=False)

CLASSIFICATION = CalibrationStatistics(classes.log_prob, classes.mode, classes.mean)
REGRESSION = CalibrationStatistics(numbers.log_prob, numbers.mean, numbers.variance)


def log_temp(variables):
    return float(variables["params"]["log_temp"][0])


def fit(module, statistics, batches, **options):
    calibrator = OutputCalibrator(module)
    variables = calibrator.init(batches[0][0].shape[-1], KEY)
    assert log_temp(variables) == 0
    options = {"optimizer": FAST, "n_epochs": 300, "verbose": False} | options
    return fit_calibrator(calibrator, variables, statistics, batches, **options)


def test_the_temperature_of_overconfident_logits_is_found():
    # Right in 70 of 100 points: the best logit is log(7 / 3), whatever the confidence was.
    labels = np.array([0] * 70 + [1] * 30)
    outputs = np.broadcast_to(np.float32([5.0, 0.0]), (1, 100, 2))
    batches = [(outputs[:, :64], labels[:64]), (outputs[:, 64:], labels[64:])]
    result = fit(ClassificationTemperatureScaler(), CLASSIFICATION, [(outputs, labels)])
    expected = np.log(5 / np.log(7 / 3))
    np.testing.assert_allclose(log_temp(result.variables), expected, rtol=1e-3)
    entropy = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    np.testing.assert_allclose(result.status["loss"][-1], entropy, rtol=1e-5)
    first = fit(ClassificationTemperatureScaler(), CLASSIFICATION, batches, n_epochs=1)
    # A step a batch, and padding counts for nothing: the second batch is seen after one step.
    assert first.status["loss"].shape == (1,)
    start = 5 * 30 / 100 + np.log1p(np.exp(-5))
    assert abs(first.status["loss"][0] - start) < 0.2


def test_the_variance_of_a_regressor_is_scaled_to_the_residuals():
    residuals = RNG.normal(size=(200, 1)).astype(np.float32) * 3
    outputs = np.zeros((1, 200, 2), np.float32)  # mean 0, variance 1
    result = fit(RegressionTemperatureScaler(), REGRESSION, [(outputs, residuals)])
    np.testing.assert_allclose(log_temp(result.variables), np.log(np.mean(residuals**2)), atol=2e-3)


def test_scalers_in_closed_form():
    outputs = jnp.asarray(RNG.normal(size=(2, 4, 6)), jnp.float32)
    variables = {"params": {"log_temp": jnp.asarray([0.3])}}
    got = OutputCalibrator(ClassificationTemperatureScaler())(variables, outputs)
    np.testing.assert_allclose(got, outputs * np.exp(-0.3), rtol=1e-6)
    got = OutputCalibrator(RegressionTemperatureScaler())(variables, outputs)
    np.testing.assert_array_equal(got[..., :3], outputs[..., :3])
    np.testing.assert_allclose(got[..., 3:], outputs[..., 3:] + 0.3, rtol=1e-5)


class Net(nn.Module):
    width: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, name="head")(nn.tanh(nn.Dense(4, name="body")(x)))


def heads(path, value):
    return "trainable" if "head" in path else "frozen"


def make(regression=False, laplace=True, **options):
    approximator = (
        LaplacePosteriorApproximator(tune_prior_log_variance=False)
        if laplace
        else MAPPosteriorApproximator()
    )
    if regression:
        return ProbRegressor(Net(1), Net(1), posterior_approximator=approximator, **options)
    return ProbClassifier(Net(), posterior_approximator=approximator, **options)


def train(model, loader, **options):
    map_config = FitConfig(optimizer=FitOptimizer(method=ADAM, n_epochs=3), monitor=QUIET)
    if str(model.posterior.__class__.__name__).startswith("MAP"):
        return model.train(loader, fit_config=map_config, **options)
    config = FitConfig(optimizer=FitOptimizer(freeze_fun=heads), monitor=QUIET)
    return model.train(loader, fit_config=config, map_fit_config=map_config, **options)


def calib(n_epochs=40, n_posterior_samples=30, disable_jit=False, devices=-1, **monitor):
    return CalibConfig(
        optimizer=CalibOptimizer(method=FAST, n_epochs=n_epochs),
        monitor=CalibMonitor(**{"verbose": False, **monitor}),
        processor=CalibProcessor(
            devices=devices, disable_jit=disable_jit, n_posterior_samples=n_posterior_samples
        ),
    )


@pytest.fixture(scope="module")
def classifier():
    model = make()
    train(model, CLASSES)
    return model


def calibrated_log_temp(model):
    return log_temp(model.posterior.state.get().calib_params["output_calibrator"])


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("laplace", [False, True])
def test_train_calibrates_and_every_predictive_uses_it(regression, laplace):
    model = make(regression, laplace)
    loader = NUMBERS if regression else CLASSES
    status = train(model, loader, calib_data_loader=loader, calib_config=calib())
    loss = status["calib_status"]["loss"]
    assert sorted(status["calib_status"]) == ["loss"]
    assert loss.shape == (40,)
    assert loss[-1] < loss[0]
    state = model.posterior.state.get()
    assert state.calib_params["output_calibrator"]["params"]["log_temp"].shape == (1,)
    assert state.calib_mutable is None
    assert model.posterior.sample(KEY).calib_params is state.calib_params
    after = model.predictive.log_prob(loader, rng=KEY)
    temperature = calibrated_log_temp(model)
    assert abs(temperature) > 0.05
    outputs = model.predictive.sample_calibrated_outputs(INPUTS, 5, rng=KEY)
    assert outputs.shape == (5, 60, 2)
    at_map = (state.params, INPUTS, state.mutable)
    raw = np.asarray(model.likelihood.get_outputs(*at_map))
    mapped = model.likelihood.get_calibrated_outputs(*at_map, state.calib_params)
    expected = raw.copy()
    if regression:
        expected[:, 1:] += temperature
    else:
        expected *= np.exp(-temperature)
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)
    model.posterior.state.put(dataclasses.replace(state, calib_params=None))
    before = model.predictive.log_prob(loader, rng=KEY)
    assert np.mean(after) > np.mean(before)
    plain = model.predictive.sample_calibrated_outputs(INPUTS, 5, rng=KEY)
    scaled = plain.at[..., 1:].add(temperature) if regression else plain * np.exp(-temperature)
    np.testing.assert_allclose(outputs, scaled, rtol=1e-5, atol=1e-6)


def test_training_again_forgets_the_calibration(classifier):
    model = make()
    train(model, CLASSES, calib_data_loader=CLASSES, calib_config=calib(2))
    assert model.posterior.state.get().calib_params is not None
    again = FitConfig(
        optimizer=FitOptimizer(freeze_fun=heads),
        monitor=QUIET,
        checkpointer=FitCheckpointer(start_from_current_state=True),
    )
    assert model.train(CLASSES, fit_config=again)["calib_status"] is None
    assert model.posterior.state.get().calib_params is None


def test_what_the_monitor_records(classifier):
    def brier_score(predictions, probabilities, targets):
        assert (predictions == probabilities.argmax(1)).all()
        return metric.brier_score(probabilities, targets)

    metrics = (metric.expected_calibration_error, brier_score)
    config = calib(4, metrics=metrics, eval_every_n_epochs=2)
    status = classifier.calibrate(CLASSES, CLASSES, config)
    names = ["brier_score", "expected_calibration_error", "loss"]
    assert sorted(status) == sorted([*names, *("val_" + name for name in names)])
    assert all(status[name].shape == (4,) for name in names)
    assert all(status["val_" + name].shape == (2,) for name in names)
    np.testing.assert_allclose(status["val_brier_score"], status["brier_score"][1::2], rtol=1e-5)
    quiet = calib(4, metrics=metrics, disable_calibration_metrics_computation=True)
    assert sorted(classifier.calibrate(CLASSES, None, quiet)) == ["loss"]
    none = calib(4, eval_every_n_epochs=None)
    assert sorted(classifier.calibrate(CLASSES, CLASSES, none)) == ["loss"]


def test_metrics_see_the_uncertainty_that_is_asked_for(classifier):
    seen = []

    def spy(predictions, uncertainties, targets):
        seen.append((predictions.shape, uncertainties.shape, targets.shape))
        return 0.0

    classifier.calibrate(CLASSES, None, calib(1, metrics=(spy,)))
    own = calib(1, metrics=(spy,), uncertainty_fn=classes.entropy)
    classifier.calibrate(CLASSES, None, own)
    assert seen == [((60,), (60, 2), (60,)), ((60,), (60,), (60,))]


def test_early_stopping_gives_back_the_best(classifier):
    # Labels turned round: on these data every sharpening is for the worse.
    turned = DataLoader.from_array_data((X, 1 - Y), batch_size=60)
    config = calib(50, early_stopping_patience=2)
    status = classifier.calibrate(CLASSES, turned, config)
    best = int(np.argmin(status["val_loss"]))
    assert len(status["val_loss"]) == best + 3 < 50
    shorter = calib(best + 1)
    found = calibrated_log_temp(classifier)
    # Weights are drawn anew, so the path is only nearly the same.
    classifier.calibrate(CLASSES, None, shorter)
    assert abs(found - calibrated_log_temp(classifier)) < 0.1
    longer = calib(50, early_stopping_patience=2, early_stopping_min_delta=10.0)
    assert len(classifier.calibrate(CLASSES, turned, longer)["val_loss"]) == 3


def test_settings_change_the_result(classifier):
    def run(config):
        classifier.rng._key = jax.random.PRNGKey(11)
        status = classifier.calibrate(CLASSES, None, config)
        return status["loss"], calibrated_log_temp(classifier)

    loss, temperature = run(calib(3))
    np.testing.assert_array_equal(run(calib(3))[0], loss)
    assert len(run(calib(4))[0]) == 4
    assert run(calib(3, n_posterior_samples=4))[0][0] != loss[0]
    slower = CalibConfig(
        optimizer=CalibOptimizer(method=ADAM, n_epochs=3), monitor=CalibMonitor(verbose=False)
    )
    assert abs(run(slower)[1]) < abs(temperature)
    stepwise = run(calib(1, disable_jit=True, n_posterior_samples=2))
    compiled = run(calib(1, devices=0, n_posterior_samples=2))
    np.testing.assert_allclose(stepwise[0], compiled[0], rtol=1e-5)


def test_verbose_shows_progress(classifier, capsys):
    classifier.calibrate(CLASSES, None, calib(1))
    assert capsys.readouterr().err == ""
    classifier.calibrate(CLASSES, None, calib(1, verbose=True))
    assert "loss" in capsys.readouterr().err


class Shift(nn.Module):
    @nn.compact
    def __call__(self, outputs):
        return outputs + self.param("shift", nn.initializers.ones, outputs.shape[-1:])


def test_a_calibrator_of_ones_own():
    model = make(output_calibrator=Shift())
    train(model, CLASSES, calib_data_loader=CLASSES, calib_config=calib(3))
    shift = model.posterior.state.get().calib_params["output_calibrator"]["params"]["shift"]
    assert shift.shape == (2,)
    assert isinstance(model.output_calibrator, Shift)
    assert make(output_calibrator=None).output_calibrator is None


class Nothing(nn.Module):
    def __call__(self, outputs):
        return outputs


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_failures_keep_the_calibration_that_there_was(classifier, n_epochs):
    classifier.calibrate(CLASSES, None, calib(2))
    before = calibrated_log_temp(classifier)
    wild = CalibConfig(
        optimizer=CalibOptimizer(method=WILD, n_epochs=n_epochs),
        monitor=CalibMonitor(verbose=False),
    )
    with pytest.raises(NonFiniteError, match=r"became NaN or infinite in epoch 1.*learning rate"):
        classifier.calibrate(CLASSES, None, wild)
    assert calibrated_log_temp(classifier) == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: make().calibrate(CLASSES), NotFittedError, "call train"),
        (lambda m: m.calibrate(INPUTS), InvalidArgumentError, "calib_data_loader is a InputsLo"),
        (lambda m: m.calibrate(CLASSES, X), InvalidArgumentError, "val_data_loader is a ndarray"),
        (
            lambda m: m.calibrate(CLASSES, None, FitConfig()),
            InvalidArgumentError,
            "calib_config is a FitConfig; give a hoarfrost.prob_model.CalibConfig",
        ),
        (
            lambda m: m.calibrate(DataLoader.from_array_data((X, Y + 1))),
            InvalidArgumentError,
            "targets of batch 0 hold the label 2",
        ),
        (
            lambda m: make(output_calibrator=None).train(CLASSES, calib_data_loader=CLASSES),
            UserWarning,
            "calib_data_loader has no effect on a model .* output_calibrator=None: nothing is cal",
        ),
        (
            lambda m: make(output_calibrator=None).calibrate(CLASSES),
            InvalidArgumentError,
            "calib_data_loader was given, but .* output_calibrator=None",
        ),
        (
            lambda m: make().train(CLASSES, calib_config=CalibConfig()),
            UserWarning,
            "calib_config has no effect without calib_data_loader",
        ),
        (lambda m: make(output_calibrator=3), InvalidArgumentError, "output_calibrator is 3; give"),
        (
            lambda m: OutputCalibrator(Nothing()).init(2, KEY),
            InvalidArgumentError,
            r"output_calibrator Nothing has the collections \[\]",
        ),
        (
            lambda m: OutputCalibrator(nn.Dense(3)).init(2, KEY),
            ShapeError,
            r"Dense turns outputs of shape \(1, 2\) into \(1, 3\)",
        ),
        (
            lambda m: m.calibrate(CLASSES, None, calib(early_stopping_patience=1)),
            UserWarning,
            "no val_data_loader that val_loss could be computed on: nothing is stopped early",
        ),
        (lambda m: CalibOptimizer(n_epochs=0), InvalidArgumentError, "n_epochs must be an integer"),
        (lambda m: CalibOptimizer(method=1), InvalidArgumentError, "method must be an optax"),
        (
            lambda m: CalibCheckpointer(save_checkpoint_dir=3),
            InvalidArgumentError,
            "save_checkpoint_dir is 3; give a path, a str or a Path",
        ),
        (lambda m: CalibCheckpointer(dump_state=True), InvalidArgumentError, "dump_state is True"),
        (
            lambda m: CalibCheckpointer(restore_checkpoint_path=""),
            InvalidArgumentError,
            "restore_checkpoint_path is ''; give a path",
        ),
        (
            lambda m: CalibCheckpointer(save_every_n_steps=2),
            InvalidArgumentError,
            "save_every_n_steps is 2, but there is no save_checkpoint_dir",
        ),
        (
            lambda m: CalibCheckpointer(keep_top_n_checkpoints=0),
            InvalidArgumentError,
            "keep_top_n_checkpoints is 0",
        ),
        (lambda m: CalibMonitor(metrics=[max]), InvalidArgumentError, "metrics must be a tuple"),
        (lambda m: CalibMonitor(uncertainty_fn=3), InvalidArgumentError, "uncertainty_fn must be"),
        (
            lambda m: CalibMonitor(uncertainty_fn=classes.mean),
            InvalidArgumentError,
            "uncertainty_fn was given without metrics",
        ),
        (
            lambda m: CalibMonitor(disable_calibration_metrics_computation=2),
            InvalidArgumentError,
            "disable_calibration_metrics_computation must be True or False",
        ),
        (lambda m: CalibProcessor(devices=-2), InvalidArgumentError, "devices must be -1"),
        (
            lambda m: CalibProcessor(n_posterior_samples=0),
            InvalidArgumentError,
            "n_posterior_samples is 0",
        ),
        (lambda m: CalibConfig(optimizer=1), InvalidArgumentError, "optimizer must be a CalibOpt"),
    ],
)
def test_bad_arguments(classifier, call, error, message):
    with pytest.raises(error, match=message):
        call(classifier)
