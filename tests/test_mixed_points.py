"""Networks whose outputs for a point depend on the others of its batch are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost import fit_laplace, plan
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import MixedPointsError
from hoarfrost.network import as_network, check_points_apart
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.prob_model.posterior import map_fit

SWITCH = False
RNG = np.random.default_rng(2)
X = RNG.normal(size=(8, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 8)
PARAMS = {"w": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)}


def linear(params, x):
    return x @ params["w"]


MIXING = {
    "mean of inputs": lambda p, x: linear(p, x - jnp.mean(x, 0)),
    "statistics": lambda p, x: linear(p, (x - jnp.mean(x, 0)) / (jnp.std(x, 0) + 0.1)),
    "mean of outputs": lambda p, x: linear(p, x) + 0.1 * jnp.mean(linear(p, x), 0),
    "softmax": lambda p, x: jax.nn.softmax(linear(p, x), axis=0),
    "cumulative": lambda p, x: jnp.cumsum(linear(p, x), axis=0),
    "reversed": lambda p, x: linear(p, x)[::-1],
    "rolled": lambda p, x: linear(p, jnp.roll(x, 1, axis=0)),
    "largest": lambda p, x: linear(p, x / jnp.max(jnp.abs(x))),
    "number": lambda p, x: linear(p, x) / x.shape[0],
    "place": lambda p, x: linear(p, x) + 0.1 * jnp.arange(x.shape[0])[:, None],
    "transposed": lambda p, x: linear(p, x).T,
    "transposed square": lambda p, x: linear(p, x[:2]).T if len(x) > 2 else linear(p, x).T,
    "one for all": lambda p, x: jnp.mean(linear(p, x), 0, keepdims=True),
    "attention": lambda p, x: jax.nn.softmax(x @ x.T) @ linear(p, x),
}


def check(function, params, x, **options):
    network, tree, mutable = as_network(function, params)
    check_points_apart(network, tree, mutable, x, **options)


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("points", [8, 1])
def test_mixing_is_found(name, points):
    if (name, points) == ("largest", 1):
        pytest.skip("the same numbers in another order have the same largest")
    with pytest.raises(MixedPointsError, match=r"depend on the other points .* sum over points"):
        check(MIXING[name], PARAMS, X[:points])


@pytest.mark.parametrize("name", ["mean of inputs", "cumulative"])
def test_the_points_that_are_looked_at_differ(name):
    """Equal points at the start of a batch hide nothing; nor does a dict of inputs."""
    x = np.concatenate([np.repeat(X[:1], 5, axis=0), X])
    with pytest.raises(MixedPointsError):
        check(MIXING[name], PARAMS, x)
    with pytest.raises(MixedPointsError):
        check(
            lambda p, d: MIXING[name](p, d["a"][0]) * d["b"][:, None],
            PARAMS,
            {"a": (x, x), "b": np.ones(len(x), np.float32)},
        )


@pytest.mark.parametrize("entry", ["fit", "plan"])
def test_fits_and_plans_refuse_it(entry):
    with pytest.raises(MixedPointsError, match="look for sums, means or statistics over axis 0"):
        if entry == "fit":
            fit_laplace(MIXING["statistics"], PARAMS, [(X, Y)], progress=False)
        else:
            plan(MIXING["statistics"], PARAMS, X)


class Training(nn.Module):
    """BatchNorm that nobody takes out of training mode."""

    statistics: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)
        if self.statistics:
            return nn.Dense(2)(nn.BatchNorm(use_running_average=False)(x))
        return nn.Dense(2)(x - jnp.mean(x, axis=0))


def test_batch_norm_in_training_mode():
    module = Training(True)
    variables = module.init(jax.random.key(0), X)
    with pytest.raises(MixedPointsError, match="use_running_average=not train"):
        fit_laplace(module, variables, [(X, Y)], progress=False)


def trained(module, kind):
    model = ProbClassifier(module, posterior_approximator=kind())
    quiet = FitMonitor(verbose=False)
    config = FitConfig(FitOptimizer(optax.sgd(1e-2), n_epochs=1), monitor=quiet)
    name = "fit_config" if kind is MAPPosteriorApproximator else "map_fit_config"
    model.train(DataLoader.from_array_data((X, Y)), **{name: config})
    return model


@pytest.mark.parametrize("kind", [MAPPosteriorApproximator, LaplacePosteriorApproximator])
@pytest.mark.parametrize("statistics", [True, False])
def test_the_front_refuses_it_before_the_first_epoch(kind, statistics, monkeypatch):
    monkeypatch.setattr(map_fit, "fit_map", None)
    with pytest.raises(MixedPointsError):
        trained(Training(statistics), kind)


def test_predictions_of_the_front_refuse_it():
    """One that was restored, say: it need not have been trained here."""

    class Switched(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(2)(x)
            return x - jnp.mean(x, axis=0) if SWITCH else x

    global SWITCH
    SWITCH = False
    inputs = InputsLoader.from_array_inputs(X)
    model = trained(Switched(), MAPPosteriorApproximator)
    model.predictive.mean(inputs)
    SWITCH = True
    with pytest.raises(MixedPointsError):
        model.predictive.mean(inputs)


class Deep(nn.Module):
    """Layers in half precision, with everything that is done along features."""

    dtype: str

    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            x = nn.LayerNorm(dtype=self.dtype)(x + nn.Dense(24, dtype=self.dtype)(nn.gelu(x)))
        return nn.Dense(5, dtype=self.dtype)(x * x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_no_false_alarm(dtype):
    module = Deep(dtype)
    for seed in range(12):
        x = np.random.default_rng(seed).normal(size=(5, 24)).astype(np.float32)
        check(module, module.init(jax.random.key(seed), x), 30 * x)


def test_a_network_that_predicts_is_looked_at_once(monkeypatch):
    from hoarfrost.network import apart

    posterior = fit_laplace(linear, PARAMS, [(X, Y)], progress=False)
    posterior.predict(X, "nn", 4)
    monkeypatch.setattr(apart, "_program", None)
    posterior.predict(X, "nn", 4)


@pytest.mark.parametrize("points", [X[:1, :1], np.ones((1, 3), np.float32), np.array([[2]])])
def test_points_that_cannot_be_made_different(points):
    params = {"w": jnp.ones((points.shape[1], 2))}
    check(linear, params, points)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_inputs_that_are_not_finite_or_huge(value):
    x = X.copy()
    x[1, 1] = value
    check(linear, PARAMS, x)
    check(linear, PARAMS, x[1:])


def test_what_is_not_finite_is_left_to_others():
    check(lambda p, x: jnp.log(linear(p, x) * 0 - 1), PARAMS, X)
