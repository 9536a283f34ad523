"""Parameters, inputs and outputs that a network cannot have are named before any work."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hoarfrost import fit_laplace
from hoarfrost.errors import (
    HoarfrostError,
    InvalidArgumentError,
    NonFiniteError,
    SelectionError,
    ShapeError,
)
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    MAPPosteriorApproximator,
    ProbClassifier,
)

RNG = np.random.default_rng(4)
X = RNG.normal(size=(6, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 6)
W = jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)


def fit(function, params, x=X, y=Y, **options):
    return fit_laplace(function, params, [(x, y)], progress=False, **options)


def linear(params, x):
    return x @ params["w"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"w": W, "t": 1.0}, InvalidArgumentError, r"parameter 't' is 1.0, a float; .*asarray"),
        ({"w": W, "t": 3}, InvalidArgumentError, "parameter 't' is 3, a int; give an array"),
        ({"w": W, "t": "a"}, InvalidArgumentError, "parameter 't' is 'a', a str"),
        ({"w": W, "t": np.array(["a"])}, InvalidArgumentError, "'t' has dtype <U1"),
        ({"w": W + 1j}, SelectionError, "'w' has dtype complex64: only floating-point"),
        ({"w": jnp.ones((3, 2), jnp.int32)}, SelectionError, "'w' has dtype int32"),
        ({"v": W}, InvalidArgumentError, "the model linear asks for 'w', which its parameters"),
        ({"w": jnp.zeros((3, 0))}, ShapeError, r"outputs have shape \(6, 0\)|length 0"),
        ({}, SelectionError, "holds no arrays"),
    ],
)
def test_parameters(params, error, message):
    with pytest.raises((error, SelectionError), match=f"{message}|hold no number"):
        fit(linear, params)


def test_none_in_the_tree_is_no_parameter():
    posterior = fit(lambda p, x: linear(p, x), {"w": W, "bias": None})
    assert posterior.num_params == 6
    assert posterior.merge(posterior.sample(0, 1))["bias"] is None
    with_empty = fit(lambda p, x: linear(p, x), {"w": W, "empty": jnp.zeros((0, 3))})
    assert with_empty.num_params == 6 and with_empty.sample(0, 2)["empty"].shape == (2, 0, 3)


def branches(params, x):
    return linear(params, x) if x[0, 0] > 0 else -linear(params, x)


def on_the_host(params, x):
    return jnp.asarray(np.asarray(x) @ np.asarray(params["w"]))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p, x: {"a": linear(p, x)}, InvalidArgumentError, "returned dict; it must return"),
        (lambda p, x: [linear(p, x)], InvalidArgumentError, "returned list"),
        (lambda p, x: None, InvalidArgumentError, "returned NoneType"),
        (lambda p, x: (), InvalidArgumentError, "returned tuple"),
        (
            lambda p, x: jnp.argmax(linear(p, x), 1, keepdims=True),
            InvalidArgumentError,
            "returned outputs of dtype int32; they must be real floating-point",
        ),
        (lambda p, x: linear(p, x) + 1j, InvalidArgumentError, "of dtype complex64"),
        (lambda p, x: linear(p, x)[:, :1], ShapeError, r"shape \(6, 1\); the .* at least 2"),
        (lambda p, x: linear(p, x)[:, 0], ShapeError, r"outputs have shape \(6,\)"),
        (lambda p, x: jnp.sum(linear(p, x)), ShapeError, r"outputs have shape \(\)"),
        (lambda p, x: linear(p, x) * jnp.nan, NonFiniteError, "outputs on batch 0 hold a NaN"),
        (branches, InvalidArgumentError, "branches cannot be compiled: .* use jnp.where"),
        (on_the_host, InvalidArgumentError, "on_the_host cannot be compiled"),
        (lambda p, x: x @ p["w"].T, ShapeError, r"inputs of shape \(6, 3\) with .*w \(3, 2\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_outputs(function, error, message):
    with pytest.raises(error, match=message):
        fit(function, {"w": W})


@pytest.mark.filterwarnings("ignore:shape requires ndarray:DeprecationWarning")
@pytest.mark.parametrize("inputs", [[(X, Y)], [[X, X]], [(X, X, X)]], ids=["pairs", "list", "3"])
def test_inputs_in_a_row_where_the_model_takes_one_array(inputs):
    model = ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())
    quiet = FitConfig(FitOptimizer(n_epochs=1), monitor=FitMonitor(verbose=False))
    model.train([(X, Y)], fit_config=quiet)
    kind, size = type(inputs[0]).__name__, len(inputs[0])
    message = rf"inputs that are a {kind} of {size} arrays.*without targets"
    with pytest.raises(InvalidArgumentError, match=message):
        model.predictive.mean(inputs)


def test_outputs_in_a_tuple_are_its_first():
    posterior = fit(lambda p, x: (linear(p, x), x), {"w": W})
    np.testing.assert_array_equal(posterior.predict(X), fit(linear, {"w": W}).predict(X))


@pytest.mark.parametrize("link", ["probit", "nn"])
@pytest.mark.parametrize("inputs", [X[:, :2], np.ones((4, 3, 3), np.float32), np.ones(3, "f4")])
def test_inputs_of_another_width(link, inputs):
    posterior = fit(linear, {"w": W})
    with pytest.raises(ShapeError, match=r"inputs|outputs"):
        posterior.predict(inputs, link)
    with pytest.raises(HoarfrostError):
        fit(linear, {"w": W}, x=X[:, :2])


def test_outputs_of_predictions_that_are_not_finite():
    def root(params, x):
        return jnp.sqrt(x) @ params["w"]

    posterior = fit(root, {"w": W}, x=np.abs(X))
    for link in ("probit", "nn"):
        with pytest.raises(NonFiniteError, match=r"outputs on batch 0 hold a NaN"):
            posterior.predict(-np.abs(X), link)


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=False)(x))


class Wide(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x) + x @ jnp.ones((3, 2))


def test_dropout_that_is_always_on():
    module = Dropping()
    variables = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X)
    with pytest.raises(InvalidArgumentError, match=r"Dropping draws .* deterministic=not train"):
        fit(module, variables)


def test_shapes_inside_a_module():
    variables = Wide().init(jax.random.key(0), X)
    with pytest.raises(ShapeError, match="Wide cannot take inputs"):
        fit(Wide(), variables, x=X[:, :2])


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from hoarfrost import fit_laplace
from hoarfrost.errors import InvalidArgumentError
one, two = jax.devices()
x = np.ones((8, 3), np.float32) * np.arange(8)[:, None].astype("f4")
y = np.arange(8) % 2
params = {"w": jax.device_put(jnp.ones((3, 2)), one)}
apply = lambda p, x: x @ p["w"]
with_bias = lambda p, x: x @ p["w"] + p["b"]
posterior = fit_laplace(apply, params, [(x, y)], progress=False)
far = jax.device_put(x, two)
for call in (
    lambda: fit_laplace(apply, params, [(far, y)], progress=False),
    lambda: posterior.predict(far),
    lambda: fit_laplace(with_bias, {**params, "b": jax.device_put(jnp.ones(2), two)}, [(x, y)],
                        progress=False),
):
    try:
        call()
    except InvalidArgumentError as error:
        assert "lie on different devices" in str(error) and "jax.device_put" in str(error), error
    else:
        raise AssertionError
"""


def test_parameters_and_data_on_different_devices():
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", DEVICES],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
