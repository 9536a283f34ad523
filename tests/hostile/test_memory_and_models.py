"""Memory that is reused or written to, and models, priors and trees of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import folders  # noqa: F401
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost import prob_model
from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader
from hoarfrost.errors import (
    DataError,
    HoarfrostError,
    InvalidArgumentError,
    NonFiniteError,
    SelectionError,
)
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior, Prior


class Reusing:
    """Gives batch after batch in the memory of the first one, or of the first two in turn."""

    def __init__(self, batches: list[Any], buffers: int) -> None:
        self.batches, self.buffers = batches, buffers

    def __iter__(self) -> Iterator[Any]:
        memory = [tuple(map(np.empty_like, self.batches[0])) for _ in range(self.buffers)]
        for index, batch in enumerate(self.batches):
            parts = memory[index % self.buffers]
            for part, values in zip(parts, batch, strict=True):
                part[...] = values
            yield parts


@pytest.mark.parametrize("buffers", [1, 2])
def test_a_loader_may_reuse_its_memory(buffers: int) -> None:
    from entries import kept
    from problems import AT_MAP, X, Y, calib, classifier, config, fitted, laplace

    batches = [(X[i : i + 3], Y[i : i + 3]) for i in range(0, 12, 3)]
    reusing = Reusing(batches, buffers)
    posterior = kept("laplace 3", lambda: laplace(3))
    predictive = fitted("classifier").predictive

    def trained(loader: Any) -> Any:
        model = classifier(posterior_approximator=AT_MAP)
        metrics = (lambda preds, targets: float(np.mean(preds == targets)),)
        metrics[0].__name__ = "right"
        monitor = prob_model.FitMonitor(metrics=metrics, verbose=False)
        return model.train(loader, loader, fit_config=config(monitor=monitor))["fit_status"]

    def calibrated(loader: Any) -> Any:
        model = fitted("map")
        state = model.posterior.state.get()
        try:
            return model.calibrate(loader, loader, calib())
        finally:
            model.posterior.state.put(state)

    calls = (
        posterior.log_prob,
        lambda loader: predictive.log_prob(loader, 2, 0),
        lambda loader: predictive.log_prob(loader, link="probit"),
        lambda loader: DataLoader.from_iterable(loader).to_array_data(),
        lambda loader: list(DataLoader.from_iterable(loader).epoch(0)),
        lambda loader: hoarfrost.fit_laplace(
            lambda p, x: x @ p["w"],
            {"w": np.ones((2, 3), np.float32)},
            loader,
            progress=False,
        ).covariance(),
        trained,
        calibrated,
    )
    for call in calls:
        found, wanted = (jax.tree.leaves(call(loader)) for loader in (reusing, batches))
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True)), call


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_transform_may_write_to_its_batch(shuffle: bool, batch_size: int | None) -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6)
    before = x.copy(), y.copy()

    def emptied(*batch: Any) -> Any:
        *arrays, status = batch
        for array in arrays:
            array[...] = 0
        return (*arrays, status)

    options = {"batch_size": batch_size, "shuffle": shuffle}
    loaders = (
        DataLoader.from_array_data((x, y), **options).to_transformed_data_loader(emptied),
        InputsLoader.from_array_inputs(x, **options).to_transformed_inputs_loader(emptied),
        TargetsLoader.from_array_targets(y, **options).to_transformed_targets_loader(emptied),
        DataLoader.from_iterable([(x, y)]).to_transformed_data_loader(emptied),
    )
    for loader in loaders:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(list(loader.epoch(0))))
        assert np.array_equal(x, before[0]) and np.array_equal(y, before[1])


def test_a_function_that_returns_an_array_gives_no_batches() -> None:
    for value in (np.zeros((2, 2, 2)), "batches", {"a": np.zeros(2)}):
        with pytest.raises(DataError, match="gone over row by row"):
            list(InputsLoader.from_callable_iterable(lambda value=value: value))


def said(value: Any) -> Prior:
    methods = {"log_joint_prob": lambda self, params: value(params), "sample": None}
    return type("Own", (Prior,), methods)()


@pytest.mark.parametrize(
    "value",
    [lambda p: None, lambda p: "a", lambda p: 3, lambda p: jnp.int32(1), lambda p: 1j],
    ids=["none", "text", "whole", "int32", "complex"],
)
def test_a_prior_says_one_floating_point_number(value: Any) -> None:
    from problems import AT_MAP, CLASSES, classifier, config

    model = classifier(prior=said(value), posterior_approximator=AT_MAP)
    with pytest.raises(InvalidArgumentError, match=r"Own\.log_joint_prob gives"):
        model.train(CLASSES, fit_config=config())


@pytest.mark.parametrize(
    "value",
    [None, "a", 3, 1j, np.zeros(0), object(), np.zeros(2)],
    ids=["none", "text", "number", "complex", "empty", "object", "too few"],
)
def test_uncertainties_are_numbers_of_each_point(value: Any) -> None:
    from problems import CLASSES, calib, fitted

    def score(predictions: Any, uncertainties: Any, targets: Any) -> float:
        return float(np.mean(uncertainties))

    monitor = prob_model.CalibMonitor(
        metrics=(score,), uncertainty_fn=lambda outputs: value, verbose=False
    )
    with pytest.raises(InvalidArgumentError, match="uncertainty_fn gives"):
        fitted("map").calibrate(CLASSES, calib_config=calib(monitor=monitor))


def test_parameters_of_the_other_byte_order_are_the_same() -> None:
    from problems import CLASSES, apply, tree

    found = [
        hoarfrost.fit_laplace(apply, params, CLASSES, progress=False).log_marginal_likelihood()
        for params in (tree(), jax.tree.map(lambda leaf: leaf.astype(">f4"), tree()))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("prior", [IsotropicGaussianPrior(1.0), DiagonalGaussianPrior([0.5] * 15)])
@pytest.mark.parametrize("form", [">f4", "f8", ">f8", "i4", ">i8", "list of numbers"])
def test_a_prior_takes_a_tree_in_any_form(prior: Any, form: str) -> None:
    from problems import tree

    plain = {name: np.float32(np.round(3 * leaf)) for name, leaf in tree().items()}
    numbers = form == "list of numbers"
    other = jax.tree.map(lambda x: x if numbers else x.astype(form), plain)
    assert prior.log_joint_prob(other) == prior.log_joint_prob(plain)
    assert prior.log_joint_prob(other).dtype == np.float32
    drawn = [prior.sample(params, 0) for params in (other, plain)]
    assert np.array_equal(drawn[0]["a"], drawn[1]["a"])
    assert jax.tree.structure(prior.mean_tree(other)) == jax.tree.structure(plain)


@pytest.mark.parametrize(
    "params",
    [{0: np.zeros(2), "b": np.zeros(2)}, {"a": np.float64([1e39])}, {"a": object()}, {"a": dict}],
    ids=["keys without an order", "beyond float32", "an object", "a class"],
)
def test_what_is_no_tree_of_parameters_is_refused(params: Any) -> None:
    for prior in (IsotropicGaussianPrior(), DiagonalGaussianPrior([0.0])):
        for call in (prior.log_joint_prob, prior.mean_tree, prior.precision_tree, prior.sample):
            with pytest.raises(InvalidArgumentError, match="params"):
                call(params)


def test_merge_takes_the_trainable_leaves_and_no_others() -> None:
    from entries import kept
    from problems import laplace, tree

    posterior = kept("laplace 3", lambda: laplace(3))
    with pytest.raises(SelectionError, match="'extra', which is no trainable parameter"):
        posterior.merge({**tree(), "extra": np.zeros(2)})
    for bad in (tree()["a"].astype("S"), tree()["a"] + 1j, tree()["a"].astype("m8[s]")):
        with pytest.raises(HoarfrostError, match="tree at 'a' is"):
            posterior.merge({**tree(), "a": bad})


def test_an_evidence_beyond_float64_is_an_error() -> None:
    from problems import CLASSES, apply, tree

    posterior = hoarfrost.fit_laplace(apply, tree(), CLASSES, prior_mean=1e200, progress=False)
    with pytest.raises(NonFiniteError, match="from prior_mean"):
        posterior.log_marginal_likelihood()


def test_a_call_that_writes_to_its_inputs_writes_to_nothing_of_the_user() -> None:
    from problems import AT_MAP, CLASSES, Net, X, config

    def writing(module: Any, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            x[...] = 0
        return module(x)

    before = X.copy()
    model = prob_model.ProbClassifier(Net(), posterior_approximator=AT_MAP, call=writing)
    model.train(CLASSES, fit_config=config())
    assert np.array_equal(X, before)
