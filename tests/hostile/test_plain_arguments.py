"""Switches, keys, counts, durations and values of metrics: each kind at every place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import folders  # noqa: F401
import jax
import numpy as np
import pytest

from hoarfrost import metric, prob_model
from hoarfrost.data import DataLoader
from hoarfrost.errors import HoarfrostError, InvalidArgumentError, MemoryLimitError
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior


def distributed() -> Iterator[Any]:
    """Every method of a fitted model that takes `distribute`, with right arguments."""
    from test_nothing_is_missing import TABLE

    for name, subject in TABLE.items():
        if "distribute" in inspect.signature(subject.documented).parameters:
            yield name, subject


@pytest.mark.parametrize("value", [None, 1, "yes", np.ones(2), np.array(True)], ids=repr)
def test_distribute_is_a_switch_everywhere(value: Any) -> None:
    places = list(distributed())
    assert len(places) > 40
    for name, subject in places:
        with pytest.raises(InvalidArgumentError, match="distribute must be True or False"):
            subject.run(**{**subject.base(), "distribute": value})
            pytest.fail(name)


@pytest.mark.parametrize("kind", ["classifier", "map"])
@pytest.mark.parametrize("key", ["a", True, -1, 1.5, np.zeros(3, np.uint32), np.zeros(0)], ids=repr)
def test_a_key_is_a_key_or_a_seed(kind: str, key: Any) -> None:
    from problems import fitted

    posterior = fitted(kind).posterior
    for call in (lambda: posterior.weight_samples(2, key), lambda: posterior.sample(key)):
        with pytest.raises(InvalidArgumentError, match="rng is"):
            call()


def test_a_seed_stands_for_its_key() -> None:
    from problems import fitted

    posterior = fitted("classifier").posterior
    drawn = [
        jax.tree.leaves(posterior.weight_samples(2, key).trainable)
        for key in (np.int64(5), jax.random.PRNGKey(5))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))


@pytest.mark.parametrize("kind", ["classifier", "map"])
@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", 10**400], ids=str)
def test_a_count_is_a_count(kind: str, count: Any) -> None:
    from problems import fitted, key

    with pytest.raises(InvalidArgumentError, match="n_samples is"):
        fitted(kind).posterior.weight_samples(count, key())


@pytest.mark.parametrize("value", [None, 3, [("a", 1)], "batch_stats", {1: 2}], ids=repr)
def test_collections_are_a_mapping(value: Any) -> None:
    from entries import kept
    from problems import laplace

    with pytest.raises(InvalidArgumentError, match="collections is"):
        kept("laplace 3", lambda: laplace(3)).with_collections(value)


def durations() -> dict[str, Callable[[Any], Any]]:
    """Calls that take numbers, of a few."""
    labels = np.array([0, 1, 1])
    return {
        "accuracy": lambda x: metric.accuracy(x, labels),
        "targets": lambda x: metric.accuracy(labels, x),
        "rmse": lambda x: metric.rmse(x, labels.astype(np.float32)),
        "coverage": lambda x: metric.picp(labels - 1, x, labels),
        "mean": lambda x: IsotropicGaussianPrior(mean=x),
        "log_var": DiagonalGaussianPrior,
        "density": IsotropicGaussianPrior().log_joint_prob,
    }


@pytest.mark.parametrize("name", durations())
def test_durations_are_no_numbers(name: str) -> None:
    with pytest.raises(HoarfrostError):
        durations()[name](np.array([1, 2, 3], "m8[s]"))


def named(value: Any) -> str:
    """The same for every process, which an object's own text is not."""
    return type(value).__name__


@pytest.mark.parametrize("value", ["a", None, [1.0, 2.0], 1j, dict, object()], ids=named)
def test_a_metric_gives_a_number(value: Any) -> None:
    from problems import CLASSES, calib, classifier, config, fitted

    def score(*arguments: Any) -> Any:
        return value

    monitor = prob_model.FitMonitor(metrics=(score,), verbose=False)
    model = classifier(posterior_approximator=prob_model.MAPPosteriorApproximator())
    with pytest.raises(InvalidArgumentError, match="'score' gives"):
        model.train(CLASSES, fit_config=config(monitor=monitor))
    calibrated = prob_model.CalibMonitor(metrics=(score,), verbose=False)
    with pytest.raises(InvalidArgumentError, match="'score' gives"):
        fitted("map").calibrate(CLASSES, calib_config=calib(monitor=calibrated))


@pytest.mark.parametrize("plain", [2, 3])
def test_steps_of_accumulation_may_be_of_numpy(plain: int) -> None:
    from problems import CLASSES, classifier, config

    losses = []
    for steps in (plain, np.int64(plain)):
        settings = prob_model.FitHyperparameters(1e300, steps)
        model = classifier(posterior_approximator=prob_model.MAPPosteriorApproximator())
        status = model.train(CLASSES, fit_config=config(hyperparameters=settings))
        losses.append(status["fit_status"]["loss"])
    assert np.array_equal(*losses)


def test_a_mean_beyond_float32_is_refused() -> None:
    for mean in (1e300, np.full(3, -1e39), {"a": np.array([1e39])}):
        with pytest.raises(InvalidArgumentError, match="at most 3"):
            IsotropicGaussianPrior(mean=mean)


@pytest.mark.parametrize("form", [">f4", ">f8", "f8", "mask of none"])
def test_variables_of_a_likelihood_in_another_form_are_the_same(form: str) -> None:
    from problems import INPUTS, fitted

    likelihood, params = fitted("regressor").likelihood, fitted("regressor").posterior.state.get()

    def other(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return np.ma.masked_array(leaf) if form == "mask of none" else leaf.astype(form)

    turned = jax.tree.map(other, params.params)
    for method in (likelihood.mean, likelihood.variance, likelihood.get_outputs):
        assert np.array_equal(method(turned, INPUTS), method(params.params, INPUTS))


def test_a_sample_of_points_that_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.memory.available_bytes", lambda: 10**6)
    loader = DataLoader.from_array_data((np.zeros((4, 2)), np.zeros(4)))
    with pytest.raises(MemoryLimitError, match="a sample of 100000 points") as caught:
        loader.sample(0, 10**5)
    assert caught.value.bytes_needed == 24 * 10**5
    with pytest.raises(InvalidArgumentError, match="replace must be True or False"):
        loader.sample(0, 2, replace="no")
