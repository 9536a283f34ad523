"""Every argument of a posterior by its draws, of its file, of schedules and of diagnostics."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from entries import Entry, Later, Other, Refused, Subject, built, cases, check, kept, table
from problems import (
    CLASSES,
    CLASSES2,
    NUMBERS,
    OTHER_VARIABLES,
    VARIABLES,
    X2,
    Net,
    X,
    apply,
    apply_sine,
    held,
    nnx_net,
    tree,
    twice,
)

import hoarfrost
from hoarfrost import methods, storage
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import WeightPosterior
from hoarfrost.predictive import RegressionPrediction

PLACES = np.arange(12)
CHAIN = np.random.default_rng(0).standard_normal((8, 3)).cumsum(0)


def advi(outputs: int) -> WeightPosterior:
    """A posterior of which draws differ: of classes (3), or of one number."""

    def make() -> WeightPosterior:
        data, likelihood = (CLASSES, "categorical") if outputs == 3 else (NUMBERS, Gaussian(0.5))
        return methods.fit_advi(
            apply,
            tree(outputs=outputs),
            data,
            likelihood=likelihood,
            trainable=lambda path, value: "b" in path,
            n_epochs=1,
            progress=False,
        )

    return kept(f"advi {outputs}", make)


def trained(model: Any, params: Any) -> WeightPosterior:
    """One whose head is trained."""
    options = {"trainable": ["head"], "n_epochs": 1, "progress": False}
    return methods.fit_map(model, params, CLASSES, **options)


def on_posterior(name: str, outputs: int) -> Callable[..., Any]:
    def run(**given: Any) -> Any:
        found = getattr(advi(outputs), name)(**given)
        if isinstance(found, RegressionPrediction):
            return found.mean, found.epistemic_variance, found.noise_variance
        return found.trainable if name == "weight_samples" else found

    return run


def run_to_jax(**given: Any) -> Any:
    """What the function for serving gives."""
    arrays, function = advi(3).to_jax(**given)
    return function(arrays, tree(), X)


def run_write_to(**given: Any) -> Any:
    """What a module holds afterwards."""
    posterior = kept("weights of a map of NNX", lambda: trained(nnx_net(), None))
    posterior.write_to(**given)
    return held(given["module"])


def saved(**given: Any) -> str:
    """A posterior in a file."""
    given = {"path": tempfile.mkdtemp() + "/posterior", **given}
    kept("weights of a map", lambda: trained(Net(), VARIABLES)).save(**given)
    return given["path"]


def run_save(**given: Any) -> Any:
    """The names in a posterior's file."""
    with (
        contextlib.chdir(tempfile.mkdtemp()),  # where a relative path leads
        storage.opened(saved(**given), "weights") as stored,
    ):
        return sorted(re.sub(r"\d", "", name) for name in stored.entries)


def run_load_posterior(**given: Any) -> Any:
    posterior = hoarfrost.load_posterior(**given)
    return posterior.merge(), posterior.predict(X)


def without_frozen() -> str:
    return saved(frozen=False)


def other_file() -> str:
    """Of the same frozen parameters, and another start."""
    params = jax.tree.map(np.asarray, VARIABLES)
    head = jax.tree.map(np.negative, params["params"]["head"])
    posterior = trained(Net(), {"params": {**params["params"], "head": head}})
    path = tempfile.mkdtemp() + "/posterior"
    posterior.save(path, frozen=False)
    return path


DRAWN: dict[str, Entry] = {"n_samples": Other(4), "seed": Other(1)}
ON_INPUTS: tuple[dict[str, Any], dict[str, Entry]] = (
    {"inputs": X, "n_samples": 3},
    {"inputs": Other(X2), **DRAWN},
)
# Of each method the arguments of the base call, and the entries.
METHODS: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
    "sample": ({}, DRAWN),
    "merge": ({"tree": None}, {"tree": Other({"b": 2 * tree()["b"]})}),
    "weight_samples": ({"n_samples": 3}, DRAWN),
    "predict": ON_INPUTS,
    "predict_regression": ON_INPUTS,
    "log_prob": (
        {"data_loader": CLASSES, "n_samples": 3},
        {"data_loader": Other(CLASSES2), **DRAWN},
    ),
    "functional_covariance": ON_INPUTS,
    "functional_variance": ON_INPUTS,
}
# Of each schedule and preconditioner, and of diagnostics, the same.
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
    "constant_schedule": ({"init_step_size": 0.1}, {"init_step_size": Other(0.2)}),
    "constant_schedule_with_cosine_burnin": (
        {"init_step_size": 0.1, "final_step_size": 0.01, "burnin_steps": 4},
        {
            "init_step_size": Other(0.2),
            "final_step_size": Other(0.02),
            "burnin_steps": Other(6),
        },
    ),
    "cosine_schedule": (
        {"init_step_size": 0.1, "total_steps": 8},
        {"init_step_size": Other(0.2), "total_steps": Other(9)},
    ),
    "cyclical_cosine_schedule_with_const_burnin": (
        {"init_step_size": 0.1, "burnin_steps": 2, "cycle_length": 4},
        {"init_step_size": Other(0.2), "burnin_steps": Other(3), "cycle_length": Other(5)},
    ),
    "polynomial_schedule": ({}, {"a": Other(2.0), "b": Other(2.0), "gamma": Other(0.75)}),
}
DIAGNOSTICS: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
    "effective_sample_size": (
        {"samples": CHAIN},
        {"samples": Other(CHAIN[::-1] ** 2), "filter_threshold": Other(0.5)},
    ),
    "kernel_stein_discrepancy_imq": (
        {"samples": CHAIN, "grads": -CHAIN},
        {
            "samples": Other(CHAIN**2),
            "grads": Other(CHAIN),
            "c": Other(2.0),
            "beta": Other(-0.25),
        },
    ),
}


def roots(**given: Any) -> Any:
    """Of the preconditioner's diagonal after two gradients."""
    init, update, root = methods.rmsprop_preconditioner(**given)
    state = update(update(init(tree()), tree()), tree(2.0))
    return root(state, tree())


def sizes(name: str) -> Callable[..., Any]:
    return lambda **given: np.asarray(getattr(methods, name)(**given)(PLACES))


def numbers(name: str) -> Callable[..., Any]:
    """What a diagnostic gives, whatever the tree."""
    return lambda **given: np.hstack(
        [np.ravel(leaf) for leaf in jax.tree.leaves(getattr(methods, name)(**given))]
    )


def of_methods() -> Iterator[tuple[str, Subject]]:
    for name, (base, entries) in METHODS.items():
        run = on_posterior(name, 1 if name == "predict_regression" else 3)
        yield built(f"WeightPosterior.{name}", run, base, **entries)
    yield built("WeightPosterior.to_jax", run_to_jax, {"n_samples": 3}, **DRAWN)
    yield built(
        "WeightPosterior.write_to",
        run_write_to,
        lambda: {"module": nnx_net(1)},
        module=Refused(Net(), "module is a Net; give an NNX module"),
        tree=Other({"head": {"bias": np.ones(3, np.float32)}}),
    )
    yield built(
        "WeightPosterior.save",
        run_save,
        {},
        path=Refused("no folder/posterior", "the folder of path .* does not exist"),
        frozen=Other(False),
    )
    yield built(
        "load_posterior",
        run_load_posterior,
        lambda: {"path": without_frozen(), "model": Net(), "params": VARIABLES},
        path=Other(Later(other_file)),
        model=Refused(apply_sine, "another model"),
        params=Refused(OTHER_VARIABLES, "other frozen parameters"),
        call=Refused(twice, "another model"),
        likelihood=Refused("poisson", "leave it out"),
        verify=Refused("yes", "verify must be True or False"),
        devices=Refused(2, "devices is 2, but there is 1 local device"),
    )
    for name, (base, entries) in SCHEDULES.items():
        yield built(name, sizes(name), base, **entries)
    yield built(
        "rmsprop_preconditioner", roots, {}, running_average_factor=Other(0.9), eps=Other(1e-2)
    )
    for name, (base, entries) in DIAGNOSTICS.items():
        yield built(name, numbers(name), base, **entries)


TABLE = table(of_methods())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
