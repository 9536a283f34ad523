"""Every argument of `fit_laplace`, of a posterior and of what it predicts."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from entries import Entry, Later, Other, Pair, Refused, Subject, built, cases, check, kept, table
from problems import (
    CLASSES,
    CLASSES2,
    CLASSES_AS_ROWS,
    NUMBERS,
    NUMBERS2,
    OF_HEAD,
    OTHER_VARIABLES,
    TWICE,
    VARIABLES,
    X2,
    Net,
    T,
    X,
    apply,
    apply_sine,
    first_of_tanh,
    held,
    laplace,
    nnx_net,
    shown_by,
    tree,
    twice,
)

import hoarfrost
from hoarfrost import storage
from hoarfrost.predictive import RegressionPrediction


def run_fit_laplace(model: Any, params: Any, data_loader: Any, **options: Any) -> Any:
    posterior, shown = shown_by(
        lambda: hoarfrost.fit_laplace(model, params, data_loader, **options)
    )
    evidence = posterior.log_marginal_likelihood()
    return posterior.covariance(), evidence, posterior.curvature is None, shown


def run_describe(**given: Any) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        described = hoarfrost.describe(**given)
    assert shown.getvalue() == f"{described}\n"
    return shown.getvalue()


def first_two(module: Any, inputs: Any) -> Any:
    return module(inputs)[:, :2]


HEAD = re.compile("b")


def run_to_jax(**given: Any) -> Any:
    """What the function for serving gives, and whether it was compared with the posterior's own."""
    posterior = kept("laplace 3", lambda: laplace(3))
    arrays, function = posterior.to_jax(**given)
    outputs = function(arrays, posterior.merge(posterior.linearised.trainable), X)
    return outputs, function.largest_difference is None


def run_write_to(**given: Any) -> Any:
    """What a module holds afterwards."""
    posterior = hoarfrost.fit_laplace(nnx_net(), None, CLASSES, trainable=["head"], progress=False)
    posterior.write_to(**given)
    return held(given["module"])


def run_update(**given: Any) -> Any:
    posterior = laplace(3)
    _, shown = shown_by(lambda: posterior.update(**given))
    return posterior.precision(), shown


def run_save(**given: Any) -> Any:
    """The names in a posterior's file."""
    path = tempfile.mkdtemp() + "/posterior"
    posterior = hoarfrost.fit_laplace(**OF_HEAD, data_loader=CLASSES, progress=False)
    posterior.save(**{"path": path, **given})
    with storage.opened(path, "laplace") as stored:
        return sorted(re.sub(r"\d", "", name) for name in stored.entries)


def file_of(likelihood: Any = "categorical", **options: Any) -> str:
    """A posterior in a file."""
    path = tempfile.mkdtemp() + "/posterior"
    options = {"model": Net(), "params": VARIABLES, "trainable": ["head"], **options}
    data = CLASSES if likelihood == "categorical" else CLASSES_AS_ROWS
    hoarfrost.fit_laplace(**options, data_loader=data, likelihood=likelihood, progress=False).save(
        path, frozen=False
    )
    return path


def run_features(**given: Any) -> Any:
    """Features and what was shown, and whether they are in files."""
    with contextlib.chdir(tempfile.mkdtemp()):  # where a relative path leads
        store, shown = shown_by(lambda: hoarfrost.features(**given))
    return *store.to_array_data(), shown, given.get("path") is not None


def run_load_laplace(**given: Any) -> Any:
    posterior = hoarfrost.load_laplace(**given)
    return posterior.variance(), posterior.predict(X), posterior.store.budget


def on_laplace(name: str, outputs: int = 3) -> Callable[..., Any]:
    """A method of a fresh posterior, and what it left behind."""

    def run(**arguments: Any) -> Any:
        posterior = kept(f"laplace {outputs}", lambda: laplace(outputs))
        if name.startswith("optimize"):
            posterior = laplace(outputs)
        with warnings.catch_warnings():
            if name == "optimize_on":  # twelve points of noise: a bound is where they lead
                warnings.simplefilter("ignore")
            result = getattr(posterior, name)(**arguments)
        if isinstance(result, RegressionPrediction):
            return result.mean, result.epistemic_variance, result.noise_variance
        if isinstance(result, hoarfrost.Laplace):
            return result.variance(), result.merge(tree())
        return result

    return run


def of_functional_front() -> Iterator[tuple[str, Subject]]:
    yield built(
        "fit_laplace",
        run_fit_laplace,
        lambda: {"model": apply, "params": tree(), "data_loader": CLASSES, "progress": False},
        model=Other(apply_sine),
        params=Other(tree(0.5)),
        data_loader=Other(CLASSES2),
        likelihood=Pair(
            {"data_loader": CLASSES_AS_ROWS, "likelihood": "bernoulli"},
            {"data_loader": CLASSES_AS_ROWS, "likelihood": "poisson"},
        ),
        trainable=Other(lambda path, value: "b" in path),
        hessian_structure=Other("diag"),
        prior_precision=Other(3.0),
        prior_mean=Other(0.5),
        prior=Other(Later(lambda: laplace(3))),
        temperature=Other(2.0),
        resume_dir=Refused("no folder/here", "resume_dir is"),
        keep_curvature=Other(False),
        memory_budget=Refused(100, "memory_budget|bytes"),
        progress=Other(True),
        call=Pair({"model": Net(), "params": VARIABLES}, TWICE),
        ignored_label=Other(2),
        # What several devices do is in tests/test_devices.py.
        devices=Refused(2, "devices is 2, but there is 1 local device"),
    )
    yield built(
        "plan",
        lambda **given: str(hoarfrost.plan(**given)),
        lambda: {"model": apply, "params": tree(), "inputs": X, "memory_budget": 10_000},
        model=Pair(
            {"trainable": "last_layer"},
            {"trainable": "last_layer", "model": lambda params, x: x @ params["a"]},
        ),
        params=Other(tree(outputs=4)),
        inputs=Refused(X[:0], "inputs are empty"),
        likelihood=Pair({}, {"likelihood": "bernoulli", "trainable": "last_layer"}),
        trainable=Other("last_layer"),
        memory_budget=Other(20_000),
        call=Pair(OF_HEAD, {**OF_HEAD, "call": first_two}),
    )
    yield built(
        "describe",
        run_describe,
        lambda: {"model": apply, "params": tree(), "inputs": X},
        model=Pair(
            {"trainable": HEAD}, {"trainable": HEAD, "model": lambda params, x: x @ params["a"]}
        ),
        params=Other(tree(outputs=4)),
        inputs=Other(None),
        likelihood=Pair({"trainable": HEAD}, {"likelihood": "bernoulli", "trainable": HEAD}),
        trainable=Other("last_layer"),
        memory_budget=Other(20_000),
        call=Pair(OF_HEAD, {**OF_HEAD, "call": first_two}),
    )
    drawn: dict[str, Entry] = {
        "n_samples": Pair({"link": "mc"}, {"link": "mc", "n_samples": 7}),
        "seed": Pair({"link": "mc"}, {"link": "mc", "seed": 7}),
    }
    structure = Other("layerwise")
    of_classes: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
        "optimize_prior_precision": ({}, {"structure": structure}),
        "optimize_prior_scale": ({}, {"low": Other(1e3), "high": Other(1e-3)}),
        "with_temperature": ({"temperature": 1.0}, {"temperature": Other(2.0)}),
        "with_prior_precision": ({"prior_precision": 1.0}, {"prior_precision": Other(2.0)}),
        "sample": ({"seed": 0, "n_samples": 2}, {"seed": Other(1), "n_samples": Other(3)}),
        "merge": ({"tree": tree()}, {"tree": Other(tree(2.0))}),
        "with_collections": ({"collections": {}}, {"collections": Other({"batch_stats": X})}),
        "functional_covariance": ({"inputs": X}, {"inputs": Other(X2), "joint": Other(True)}),
        "functional_variance": ({"inputs": X}, {"inputs": Other(X2)}),
        "predict": (
            {"inputs": X},
            {"inputs": Other(X2), "link": Other("bridge"), "log": Other(True), **drawn},
        ),
        "predict_proba": ({"inputs": X}, {"inputs": Other(X2), "link": Other("bridge"), **drawn}),
        "log_prob": (
            {"data_loader": CLASSES},
            {"data_loader": Other(CLASSES2), "link": Other("bridge"), **drawn},
        ),
    }
    drawn = {
        "n_samples": Pair({"link": "nn"}, {"link": "nn", "n_samples": 7}),
        "seed": Pair({"link": "nn"}, {"link": "nn", "seed": 7}),
    }
    of_numbers: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
        "log_marginal_likelihood": (
            {},
            {"prior_precision": Other(2.0), "noise_std": Other(0.7)},
        ),
        "optimize_hyperparameters": ({}, {"structure": structure}),
        "optimize_on": (
            {"data_loader": NUMBERS2},
            {
                "data_loader": Other(NUMBERS),
                "parameters": Other("temperature"),
                "link": Other("nn"),
                **drawn,
                "low": Other(0.9),
                "high": Other(1.1),
                "grid_size": Other(4),
            },
        ),
        "predict_regression": ({"inputs": X}, {"inputs": Other(X2), "link": Other("nn"), **drawn}),
    }
    for outputs, group in ((3, of_classes), (1, of_numbers)):
        for name, (base, entries) in group.items():
            yield built(f"Laplace.{name}", on_laplace(name, outputs), base, **entries)
    yield built(
        "Laplace.to_jax",
        run_to_jax,
        {},
        form=Other("covariance"),
        dtype=Other("bfloat16"),
        n_samples=Pair({"form": "samples"}, {"form": "samples", "n_samples": 7}),
        seed=Pair({"form": "samples"}, {"form": "samples", "seed": 7}),
        inputs=Other(X2),
    )
    yield built(
        "Laplace.write_to",
        run_write_to,
        lambda: {"module": nnx_net(1)},
        module=Refused(Net(), "module is a Net; give an NNX module"),
        tree=Other({"head": {"bias": np.ones(3, np.float32)}}),
    )
    yield built(
        "Laplace.update",
        run_update,
        lambda: {"data_loader": CLASSES, "progress": False},
        data_loader=Other(CLASSES2),
        progress=Other(True),
    )
    yield built(
        "Laplace.save",
        run_save,
        {},
        path=Refused("no folder/posterior", "the folder of path .* does not exist"),
        frozen=Other(False),
        curvature=Other(False),
    )
    yield built(
        "load_laplace",
        run_load_laplace,
        lambda: {"path": file_of(), "model": Net(), "params": VARIABLES},
        path=Other(Later(lambda: file_of(prior_precision=3.0))),
        model=Refused(apply_sine, "another model"),
        params=Refused(OTHER_VARIABLES, "other frozen parameters"),
        call=Refused(twice, "another model"),
        likelihood=Refused("poisson", "leave it out"),
        memory_budget=Other(10_000),
        verify=Refused("yes", "verify must be True or False"),
        devices=Refused(2, "devices is 2, but there is 1 local device"),
    )
    yield built(
        "features",
        run_features,
        lambda: {"model": apply, "params": tree(), "loader": CLASSES, "progress": False},
        model=Other(apply_sine),
        params=Other(tree(0.5)),
        loader=Other(CLASSES2),
        trainable=Refused(["a"], "not the kernel and bias of a plain Dense layer"),
        path=Other(Later(tempfile.mkdtemp)),
        call=Pair({"model": Net(), "params": VARIABLES}, {**OF_HEAD, "call": first_of_tanh}),
        progress=Other(True),
    )
    prediction = RegressionPrediction(T, np.ones_like(T), 2 * np.ones_like(T))
    yield built("RegressionPrediction.quantile", prediction.quantile, {"q": 0.3}, q=Other(0.4))
    yield built(
        "RegressionPrediction.credible_interval",
        prediction.credible_interval,
        {},
        error=Other(0.2),
        interval_type=Other("left-tailed"),
    )


TABLE = table(of_functional_front())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
