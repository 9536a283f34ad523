"""Every public function that takes inputs, alone or with their targets, and small models for it."""

from __future__ import annotations

import functools
import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import hoarfrost
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.metric import accuracy, rmse
from hoarfrost.prob_model import (
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)
from hoarfrost.prob_model.likelihood import ClassificationLikelihood, RegressionLikelihood
from hoarfrost.prob_model.predictive.classification import ClassificationPredictive
from hoarfrost.prob_model.predictive.regression import RegressionPredictive

RNG = np.random.default_rng(11)
X = RNG.normal(size=(24, 3)).astype(np.float32)
Y = ((X[:, 0] > 0).astype(np.int32) + (X[:, 1] > 0.5)).astype(np.int32)
Z = (X[:, :1] - X[:, 1:2] + 0.1 * RNG.normal(size=(24, 1))).astype(np.float32)
BATCH = 10
KEY = jax.random.PRNGKey(3)
# The parameters stay where they are, so that an epoch of training is one of looking.
STILL = optax.sgd(0.0)
ADAM = optax.adam(3e-2)
QUIET = FitMonitor(verbose=False)


class Net(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, name="head")(jnp.tanh(nn.Dense(5, name="body")(x)))


def head_only(path: tuple[str, ...], value: Any) -> str:
    return "trainable" if "head" in path else "frozen"


def accuracy_of(predictions: Any, targets: Any) -> float:
    return float(accuracy(predictions, targets))


def rmse_of(predictions: Any, targets: Any) -> float:
    return float(rmse(predictions, targets))


def epochs(n: int, optimizer: Any = ADAM, metric: Any = None) -> FitConfig:
    return FitConfig(
        optimizer=FitOptimizer(method=optimizer, n_epochs=n),
        monitor=FitMonitor(verbose=False, metrics=None if metric is None else (metric,)),
    )


def calibration() -> CalibConfig:
    return CalibConfig(
        optimizer=CalibOptimizer(method=ADAM, n_epochs=5),
        processor=CalibProcessor(n_posterior_samples=3),
        monitor=CalibMonitor(verbose=False),
    )


def classifier(laplace: bool) -> ProbClassifier:
    approximator = (
        LaplacePosteriorApproximator(tune_prior_log_variance=False)
        if laplace
        else MAPPosteriorApproximator()
    )
    return ProbClassifier(Net(3), posterior_approximator=approximator)


def trained(model: Any, data: Any, laplace: bool) -> Any:
    if laplace:
        head = FitConfig(optimizer=FitOptimizer(freeze_fun=head_only), monitor=QUIET)
        model.train(data, fit_config=head, map_fit_config=epochs(3))
    else:
        model.train(data, fit_config=epochs(3))
    return model


@functools.cache
def models() -> SimpleNamespace:
    """Small models, trained on `X` in the order given."""
    classes = DataLoader.from_array_data((X, Y), batch_size=BATCH)
    numbers = DataLoader.from_array_data((X, Z), batch_size=BATCH)
    params = Net(3).init(jax.random.PRNGKey(0), X)
    return SimpleNamespace(
        params=params,
        core=hoarfrost.fit_laplace(Net(3), params, classes, progress=False),
        core_numbers=hoarfrost.fit_laplace(
            Net(1),
            Net(1).init(jax.random.PRNGKey(0), X),
            numbers,
            likelihood="gaussian",
            progress=False,
        ),
        map=trained(classifier(False), classes, False),
        laplace=trained(classifier(True), classes, True),
        regressor=trained(
            ProbRegressor(
                Net(1),
                Net(1),
                posterior_approximator=LaplacePosteriorApproximator(tune_prior_log_variance=False),
            ),
            numbers,
            True,
        ),
    )


# Arguments that a method needs beside its loader.
_MORE = {"quantile": {"q": 0.3}}
# The random draws of these go with the place of a point, not with the point.
DRAWN = ("sample", "quantile", "entropy", "epistemic_entropy")


def _call(get: Callable[[Any], Any], name: str, argument: str, **given: Any) -> Callable:
    def call(loader: Any) -> Any:
        # Only now, so that a file that lists what there is trains nothing.
        owner = get(models())
        params = {"params": owner[1]} if isinstance(owner, tuple) else {}
        method = getattr(owner[0] if params else owner, name)
        return method(**{argument: loader}, **params, **_MORE.get(name, {}), **given)

    return call


def _predictive(model: str, all_models: Any) -> Any:
    return getattr(all_models, model).predictive


def _likelihood(model: str, all_models: Any) -> Any:
    owner = getattr(all_models, model)
    return owner.likelihood, owner.posterior.state.get().params


def _methods(owner: type, argument: str) -> Iterable[str]:
    for name, method in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_") and argument in inspect.signature(method).parameters:
            yield name


def _of_fronts(argument: str) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Methods of predictives and likelihoods, by name, with the kind of their targets."""
    found = {}
    of_classes = ClassificationPredictive, ClassificationLikelihood
    of_numbers = RegressionPredictive, RegressionLikelihood
    for model, kind, (predictive, likelihood) in (
        ("map", "classes", of_classes),
        ("laplace", "classes", of_classes),
        ("regressor", "numbers", of_numbers),
    ):
        get = functools.partial(_predictive, model)
        for name in _methods(predictive, argument):
            found[f"{model}.predictive.{name}"] = kind, _call(get, name, argument, rng=KEY)
        get = functools.partial(_likelihood, model)
        for name in _methods(likelihood, argument):
            draws = {"n_target_samples": 2, "rng": KEY} if name == "sample" else {}
            found[f"{model}.likelihood.{name}"] = kind, _call(get, name, argument, **draws)
    get = functools.partial(_predictive, "laplace")
    for name in ("mean", "mode", "variance", "std", "entropy", "credible_set", "log_prob"):
        if name in _methods(ClassificationPredictive, argument):
            call = _call(get, name, argument, link="probit")
            found[f"laplace.predictive.{name} probit"] = "classes", call
    return found


def of_inputs() -> dict[str, Callable[[Any], Any]]:
    """By name, what takes an `InputsLoader`."""
    found = {name: call for name, (_, call) in _of_fronts("inputs_loader").items()}
    for name in ("predict", "predict_proba", "functional_variance", "functional_covariance"):
        found[f"Laplace.{name}"] = _call(lambda m: m.core, name, "inputs")
    found["Laplace.predict_regression"] = _moments
    found["Laplace.functional_covariance joint"] = lambda loader: (
        models().core.functional_covariance(loader, joint=True)
    )
    found["plan"] = lambda loader: str(hoarfrost.plan(Net(3), models().params, loader))
    return found


def of_data() -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """By name, what takes a `DataLoader`, with the kind of its targets."""
    found = _of_fronts("data_loader")
    return {
        **found,
        "Laplace.log_prob": ("classes", lambda loader: models().core.log_prob(loader)),
        "Laplace.log_prob numbers": ("numbers", lambda x: models().core_numbers.log_prob(x)),
        "Laplace.optimize_on": ("classes", _optimized),
        "Laplace.optimize_on both": ("classes", functools.partial(_optimized, both=True)),
        "Laplace.update": ("classes", _updated),
        "fit_laplace": ("classes", _evidence),
        "fit_laplace after another": ("classes", _evidence_after),
        "fit_laplace resumed": ("classes", _evidence_resumed),
        "fit_laplace last layer": ("classes", functools.partial(_evidence, trainable="last_layer")),
        "train": ("classes", _train),
        "train numbers": ("numbers", _train_numbers),
        "train validation": ("classes", _validate),
        "train Laplace": ("classes", _train_laplace),
        "train calibration": ("classes", _train_and_calibrate),
        "calibrate": ("classes", _calibrate),
        "calibrate validation": ("classes", _calibrate_validation),
        "prior_log_variance_tuning": ("classes", _tuned),
    }


def _moments(loader: Any) -> Any:
    found = models().core_numbers.predict_regression(loader)
    return found.mean, found.epistemic_variance, found.noise_variance


def _native() -> DataLoader:
    return DataLoader.from_array_data((X, Y), batch_size=BATCH)


def _evidence(loader: Any, **given: Any) -> Any:
    posterior = hoarfrost.fit_laplace(Net(3), models().params, loader, progress=False, **given)
    return posterior.log_marginal_likelihood()


def _updated(loader: Any) -> Any:
    posterior = models().core.with_prior_precision(1.0)
    posterior.update(loader, progress=False)
    return posterior.log_marginal_likelihood(), posterior.num_data


def _evidence_after(loader: Any) -> Any:
    return _evidence(loader, prior=models().core)


def _evidence_resumed(loader: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return _evidence(loader, resume_dir=folder)


def _optimized(loader: Any, both: bool = False) -> Any:
    # A posterior of its own, because it is changed.
    posterior = models().core.with_prior_precision(1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the .* that predicts")
        parameters = ("prior_precision", "temperature") if both else "prior_precision"
        return posterior.optimize_on(loader, parameters, low=0.1, high=10.0, grid_size=3)


def _train(loader: Any) -> Any:
    status = classifier(False).train(loader, fit_config=epochs(1, STILL, accuracy_of))
    return status["fit_status"]["loss"], status["fit_status"]["accuracy_of"]


def _train_numbers(loader: Any) -> Any:
    model = ProbRegressor(Net(1), Net(1), posterior_approximator=MAPPosteriorApproximator())
    status = model.train(loader, fit_config=epochs(1, STILL, rmse_of))
    return status["fit_status"]["loss"], status["fit_status"]["rmse_of"]


def _validate(loader: Any) -> Any:
    model = classifier(False)
    status = model.train(
        _native(), val_data_loader=loader, fit_config=epochs(1, STILL, accuracy_of)
    )
    return status["fit_status"]["val_loss"], status["fit_status"]["val_accuracy_of"]


def _train_laplace(loader: Any) -> Any:
    model = classifier(True)
    head = FitConfig(optimizer=FitOptimizer(freeze_fun=head_only), monitor=QUIET)
    status = model.train(loader, fit_config=head, map_fit_config=epochs(1, STILL))
    return status["fit_status"]["laplace"]["log_marginal_likelihood"]


def _train_and_calibrate(loader: Any) -> Any:
    model = classifier(False)
    status = model.train(
        _native(),
        calib_data_loader=loader,
        fit_config=epochs(1, STILL),
        calib_config=calibration(),
    )
    return status["calib_status"]["loss"]


def _calibrated(**loaders: Any) -> Any:
    model = trained(classifier(False), _native(), False)
    return model.calibrate(**loaders, calib_config=calibration())


def _calibrate(loader: Any) -> Any:
    return _calibrated(calib_data_loader=loader)["loss"]


def _calibrate_validation(loader: Any) -> Any:
    return _calibrated(calib_data_loader=_native(), val_data_loader=loader)["val_loss"]


def _tuned(loader: Any) -> Any:
    model = trained(classifier(True), _native(), True)
    status = model.posterior.prior_log_variance_tuning(loader, grid_size=3)
    return status["tuning"]["objective"]


def inputs_of(x: np.ndarray) -> InputsLoader:
    """A loader of inputs in batches."""
    return InputsLoader.from_array_inputs(x, batch_size=BATCH)


def data_of(x: np.ndarray, y: np.ndarray) -> DataLoader:
    """A loader of pairs in batches."""
    return DataLoader.from_array_data((x, y), batch_size=BATCH)


def targets_for(kind: str) -> np.ndarray:
    """Targets of the kind that a function takes."""
    return Y if kind == "classes" else Z


def same(found: Any, expected: Any) -> None:
    """Raise unless two results are equal, bit for bit."""
    a, b = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)
