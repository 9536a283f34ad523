"""Every argument of the metrics, the priors and the named likelihoods."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from entries import Elsewhere, Other, Refused, Subject, arguments_of, built, cases, check, table
from problems import T, key, tree

from hoarfrost import metric
from hoarfrost.likelihood import Gaussian
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
PROBS2 = np.array([[0.5, 0.3, 0.2], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6]], np.float32)
LABELS, LABELS2 = np.array([0, 2, 2]), np.array([1, 1, 0])
GUESSES = PROBS.argmax(1)
LOW = np.array([-1.0, 0.0, 2.0], np.float32)


def pictures(score: Any, plot: bool) -> int:
    """How many pictures a score draws."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    score(GUESSES, PROBS, LABELS, plot=plot)
    drawn = len(pyplot.get_fignums())
    pyplot.close("all")
    return drawn


def of_metrics_and_priors() -> Iterator[tuple[str, Subject]]:
    arguments: dict[str, tuple[Any, Any]] = {
        "preds": (GUESSES, LABELS),
        "probs": (PROBS, PROBS2),
        "targets": (LABELS, LABELS2),
        "lower_bounds": (LOW, LOW + 0.5),
        "upper_bounds": (LOW + 1, LOW + 0.1),
    }
    for name, function in inspect.getmembers(metric, inspect.isfunction):
        if name.startswith("_") or not function.__module__.startswith(metric.__name__):
            continue
        names = arguments_of(function)
        base = {argument: arguments[argument][0] for argument in names if argument in arguments}
        entries = {argument: Other(arguments[argument][1]) for argument in base}
        more: dict[str, Any] = {
            "log": Other(True),
            "n_bins": Other(2),
            "plot": Elsewhere(partial(pictures, function), False, True),
            "plot_options": Refused({"title": "test"}, "plot_options is .*, but plot is False"),
        }
        if "log" in names:
            more["log"] = Refused(True, "with log=True, probs must be log-probabilities")
        if name in ("root_mean_squared_error", "rmse"):
            base = {"preds": LOW, "targets": LOW + 1}
            entries = {"preds": Other(LOW + 3), "targets": Other(LOW + 5)}
        if "lower_bounds" in names:
            base["targets"] = np.float32([-0.7, 0.7, 2.9])
            entries["targets"] = Other(np.float32([5.0, 0.7, 2.9]))
        yield (
            name,
            Subject(
                function,
                function,
                lambda base=base: base,
                {**entries, **{key: more[key] for key in more if key in names}},
            ),
        )
    log_vars = np.zeros(15), np.linspace(-1, 1, 15)
    for name, cls, pair in (
        ("IsotropicGaussianPrior", IsotropicGaussianPrior, (0.0, 1.0)),
        ("DiagonalGaussianPrior", DiagonalGaussianPrior, log_vars),
    ):
        yield built(
            name,
            lambda cls=cls, **given: cls(**given).log_joint_prob(tree()),
            {"log_var": pair[0]},
            log_var=Other(pair[1]),
            mean=Other(0.5),
        )
        prior = cls(pair[1])
        yield built(
            f"{name}.log_joint_prob",
            prior.log_joint_prob,
            {"params": tree()},
            params=Other(tree(2.0)),
        )
        yield built(
            f"{name}.sample",
            prior.sample,
            {"params_like": tree()},
            params_like=Other({"c": tree()["a"], "d": tree()["b"]}),
            rng=Other(key(1)),
        )
        other = {"c": tree()["a"], "d": tree()["b"]}
        for method in ("precision_tree", "mean_tree"):
            yield built(
                f"{name}.{method}", getattr(prior, method), {"params": tree()}, params=Other(other)
            )
    yield built(
        "Gaussian",
        lambda **given: Gaussian(**given).log_prob(jnp.asarray(T), jnp.asarray(T)),
        {},
        noise_std=Other(2.0),
    )


TABLE = table(of_metrics_and_priors())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
