"""Every argument of the functions that fit a posterior, with the options that all of them share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import pytest
from entries import Entry, Later, Other, Pair, Refused, Subject, built, cases, check, table
from problems import (
    ADAM,
    CLASSES,
    CLASSES2,
    CLASSES_AS_ROWS,
    NUMBERS,
    OF_HEAD,
    SGD,
    apply,
    apply_sine,
    first_of_tanh,
    shown_by,
    tree,
)

from hoarfrost import methods
from hoarfrost.likelihood import Gaussian


def head(path: Any, value: Any) -> bool:
    return "b" in path


def anew(key: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), tree())


def falling(step: Any) -> Any:
    return 0.05 / (1 + step)


def run_method(method: Callable[..., Any], **given: Any) -> Any:
    """Draws and parameters, what was recorded, and whether anything was shown or kept in files."""
    with contextlib.chdir(tempfile.mkdtemp()):  # where a relative path leads
        posterior, shown = shown_by(lambda: method(**given))
        folder = given.get("resume_dir")
        files = 0 if folder is None else len(os.listdir(folder))
    draws = posterior.sample(0, 2)
    return draws, posterior.merge(), dict(posterior.status), posterior.num_data, shown, files > 0


OF_FUNCTION = {"model": apply, "params": tree(), "data_loader": CLASSES, "progress": False}
OF_FUNCTION |= {"trainable": head}
SHARED: dict[str, Entry] = {
    "model": Other(apply_sine),
    "params": Other(tree(0.5)),
    "data_loader": Other(CLASSES2),
    "likelihood": Pair(
        {"data_loader": CLASSES_AS_ROWS, "likelihood": "bernoulli"},
        {"data_loader": CLASSES_AS_ROWS, "likelihood": "poisson"},
    ),
    "trainable": Other(lambda path, value: "a" in path),
    "prior_precision": Other(3.0),
    "prior_mean": Other(0.5),
    "call": Pair(OF_HEAD, {**OF_HEAD, "call": first_of_tanh}),
    "ignored_label": Other(2),
    # What several devices do is in tests/methods/test_devices.py.
    "devices": Refused(2, "devices is 2, but there is 1 local device"),
    "cache_features": Other(False),
    "progress": Other(True),
}
TRAINED: dict[str, Entry] = {"optimizer": Other(SGD), "n_epochs": Other(4), "seed": Other(1)}
CHAINS: dict[str, Entry] = {
    "n_samples": Other(2),
    "n_thinning": Other(2),
    "preconditioner": Other(methods.rmsprop_preconditioner()),
    "num_chains": Other(2),
    "seed": Other(1),
    "resume_dir": Other(Later(tempfile.mkdtemp)),
}


def in_layers(params: Any, x: Any) -> Any:
    """`apply` with each matrix in a layer of its own."""
    return apply({"a": params["one"]["a"], "b": params["two"]["b"]}, x)


# Where MAP training learns its prior.
_MATRICES = tree(outputs=1)
_LAYERS = {"one": {"a": _MATRICES["a"]}, "two": {"b": _MATRICES["b"]}}
LEARNT = {"model": in_layers, "params": _LAYERS, "data_loader": NUMBERS}
LEARNT |= {"likelihood": Gaussian(0.5), "trainable": None, "n_epochs": 12}
AT_DEFAULTS = {**LEARNT, "tune_prior": "evidence"}
LEARNT |= {"n_epochs": 4, "burn_in": 1, "every": 1, "tune_prior": "evidence"}
LEARNING: dict[str, Entry] = {
    "tune_prior": Pair({**AT_DEFAULTS, "tune_prior": None}, AT_DEFAULTS),
    "structure": Pair(LEARNT, {**LEARNT, "structure": "scalar"}),
    "hessian_structure": Pair(LEARNT, {**LEARNT, "hessian_structure": "diag"}),
    "every": Pair(LEARNT, {**LEARNT, "every": 2}),
    "burn_in": Pair(LEARNT, {**LEARNT, "burn_in": 2}),
    "tune_noise": Pair(LEARNT, {**LEARNT, "tune_noise": False}),
}
# What of each method is its own: the arguments of the base call, and the entries.
OWN: dict[str, tuple[dict[str, Any], dict[str, Entry]]] = {
    "fit_map": ({"n_epochs": 1, "optimizer": ADAM}, {**TRAINED, **LEARNING}),
    "fit_swag": (
        {"n_epochs": 5, "rank": 2, "optimizer": ADAM},
        {**TRAINED, "rank": Other(3), "burnin_epochs": Other(1), "collect_every": Other(1)},
    ),
    "fit_advi": (
        {"n_epochs": 1, "optimizer": ADAM},
        {
            **TRAINED,
            "std_init_params": Other(0.5),
            "log_std_base": Other(-1.0),
            "n_loss_samples": Other(1),
        },
    ),
    "fit_ivon": (
        {"n_epochs": 2},
        {
            "learning_rate": Other(falling),
            "hess_init": Other(1.0),
            "beta1": Other(0.5),
            "beta2": Other(0.9),
            "mc_samples": Other(2),
            "n_epochs": Other(1),
            "seed": Other(1),
        },
    ),
    "fit_ensemble": (
        {"n_epochs": 1, "ensemble_size": 2, "optimizer": ADAM, "init": anew},
        {
            **TRAINED,
            "ensemble_size": Other(3),
            "init": Other("given"),
            "bootstrap": Other(True),
            "call": Pair(
                {**OF_HEAD, "init": "anew"}, {**OF_HEAD, "init": "anew", "call": first_of_tanh}
            ),
        },
    ),
    "sample_sghmc": (
        {"n_samples": 3, "burnin_length": 2, "step_schedule": 1e-2},
        {
            **CHAINS,
            "burnin_length": Other(3),
            "momentum_decay": Other(0.5),
            "step_schedule": Other(falling),
        },
    ),
    "sample_cyclical_sgld": (
        {"n_samples": 3, "cycle_length": 6, "num_cycles": 2, "init_step_size": 1e-2},
        {
            **CHAINS,
            "cycle_length": Other(5),
            "init_step_size": Other(1e-3),
            "exploration_ratio": Other(0.75),
            "num_cycles": Other(3),
        },
    ),
    "fit_sngp": (
        {"n_epochs": 1, "optimizer": ADAM, "output_dim": 3, "gp_hidden_features": 5},
        {
            **TRAINED,
            "output_dim": Other(4),
            "gp_hidden_features": Other(6),
            "normalize_input": Other(True),
            "ridge_penalty": Other(3.0),
            "momentum": Refused(0.9, "momentum is 0.9, which smooths"),
            "mean_field_factor": Other(2.0),
        },
    ),
}


def of_methods() -> Iterator[tuple[str, Subject]]:
    for name, (base, entries) in OWN.items():
        method = getattr(methods, name)
        yield built(
            name,
            partial(run_method, method),
            lambda base=base: {**OF_FUNCTION, **base},
            **{**SHARED, **entries},
        )

    yield built(
        "learnt_prior",
        methods.learnt_prior,
        lambda: {"posterior": learnt("layerwise")},
        posterior=Other(Later(lambda: learnt("scalar"))),
    )


def learnt(structure: str) -> methods.WeightPosterior:
    given = {**OF_FUNCTION, **LEARNT, "structure": structure, "optimizer": ADAM}
    return methods.fit_map(**given)


TABLE = table(of_methods())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
