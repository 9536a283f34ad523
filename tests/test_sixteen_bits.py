"""Networks of 16 bits: trained, their head made Bayesian, and near what float32 gives."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int32) + (X[:, 2] > 1)
ADAM, SGD = optax.adam(1e-2), optax.sgd(1e-3)
# Dtypes of the parameters and of what is computed.
KINDS = {
    "bfloat16": (jnp.bfloat16, jnp.bfloat16),
    "bfloat16 parameters": (jnp.bfloat16, None),
    "computed in bfloat16": (jnp.float32, jnp.bfloat16),
    "computed in float16": (jnp.float32, jnp.float16),
}


def start(key, shape, dtype, out_sharding=None):
    """The same numbers in every dtype, but for their rounding."""
    return jax.nn.initializers.lecun_normal()(key, shape, jnp.float32).astype(dtype)


class Linen(nn.Module):
    param_dtype: type
    dtype: type | None

    @nn.compact
    def __call__(self, x, train=False):
        options = {"param_dtype": self.param_dtype, "dtype": self.dtype}
        x = nn.Dense(16, kernel_init=start, name="hidden", **options)(x)
        x = nn.relu(nn.BatchNorm(not train, name="norm", **options)(x))
        return nn.Dense(3, kernel_init=start, name="head", **options)(x)


class Module(nnx.Module):
    def __init__(self, param_dtype, dtype, rngs):
        options = {"param_dtype": param_dtype, "dtype": dtype, "rngs": rngs}
        self.hidden = nnx.Linear(5, 16, kernel_init=start, **options)
        self.norm = nnx.BatchNorm(16, **options)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(16, 3, kernel_init=start, **options)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def made(flax, kinds):
    return Linen(*kinds) if flax == "linen" else Module(*kinds, nnx.Rngs(0))


def trained(model, optimizer=ADAM, maker=ProbClassifier, targets=Y, **options):
    options.setdefault("tune_prior_log_variance", False)
    built = maker(model, posterior_approximator=LaplacePosteriorApproximator(**options))
    quiet = FitMonitor(verbose=False)
    built.train(
        DataLoader.from_array_data((X, targets), batch_size=20),
        fit_config=FitConfig(optimizer=FitOptimizer(freeze_fun="last_layer"), monitor=quiet),
        map_fit_config=FitConfig(
            optimizer=FitOptimizer(method=optimizer, n_epochs=15), monitor=quiet
        ),
    )
    return built


@functools.cache
def plain(flax):
    return trained(made(flax, (jnp.float32, None)))


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def wide(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


@pytest.mark.parametrize(
    ("flax", "kind"), [*(("linen", kind) for kind in KINDS), ("nnx", "bfloat16")]
)
def test_training_and_the_head_are_near_those_of_float32(kind, flax):
    model = trained(made(flax, KINDS[kind]))
    state = model.posterior.state.get()
    assert dtypes(state.params) == {jnp.dtype(KINDS[kind][0])}
    statistics = state.mutable["model"]
    assert np.isfinite(
        statistics.get("batch_stats", statistics.get("statistics"))["norm"]["var"]
    ).all()
    posterior, reference = model.posterior.laplace, plain(flax).posterior.laplace
    assert posterior.precision().dtype == np.float64
    for found, wanted in (
        (posterior.predict(X), reference.predict(X)),
        (posterior.functional_variance(X), reference.functional_variance(X)),
    ):
        assert np.isfinite(found).all()
        # 45 steps, each of which rounds to 8 bits.
        np.testing.assert_allclose(found, wanted, rtol=0.1, atol=0.05)
    draws = posterior.sample(0, 3)
    assert dtypes(draws) == {jnp.dtype(KINDS[kind][0])}
    assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(draws))


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_curvature_of_16_bits_is_that_of_its_own_numbers(kind, structure):
    """Of the same parameters in float32: apart by the rounding of the layers, not by more."""
    network = Linen(*KINDS[kind])
    variables = network.init(jax.random.PRNGKey(0), X)
    options = {"trainable": "last_layer", "hessian_structure": structure, "progress": False}
    found = hoarfrost.fit_laplace(network, variables, [(X, Y)], **options)
    same = Linen(jnp.float32, None)
    wanted = hoarfrost.fit_laplace(same, wide(variables), [(X, Y)], **options)
    scale = np.abs(wanted.precision()).max()
    # The inputs of the head come out as derivatives, in the dtype of its parameters.
    eps = max(float(jnp.finfo(dtype or jnp.float32).eps) for dtype in KINDS[kind])
    np.testing.assert_allclose(found.precision(), wanted.precision(), rtol=0, atol=4 * eps * scale)
    evidence = found.log_marginal_likelihood()
    np.testing.assert_allclose(evidence, wanted.log_marginal_likelihood(), rtol=0.02)


def test_the_evidence_tunes_a_head_of_bfloat16():
    network = Module(*KINDS["bfloat16"], nnx.Rngs(0))
    posterior = hoarfrost.fit_laplace(
        network, None, [(X, Y)], trainable="last_layer", progress=False
    )
    before = posterior.log_marginal_likelihood()
    posterior.optimize_prior_precision()
    assert posterior.log_marginal_likelihood() > before


def test_a_regressor_of_bfloat16_is_near_that_of_float32():
    class Line(nn.Module):
        dtype: type

        @nn.compact
        def __call__(self, x):
            options = {"param_dtype": self.dtype, "dtype": self.dtype, "kernel_init": start}
            return nn.Dense(1, name="line", **options)(x)

    def mean(dtype):
        model = ProbRegressor(
            Line(dtype),
            Line(dtype),
            posterior_approximator=LaplacePosteriorApproximator(tune_prior_log_variance=False),
        )
        loader = DataLoader.from_array_data((X, X[:, :1] * 2), batch_size=20)
        quiet = FitMonitor(verbose=False)
        chosen = FitOptimizer(freeze_fun=["model/params/line"])
        model.train(
            loader,
            fit_config=FitConfig(optimizer=chosen, monitor=quiet),
            map_fit_config=FitConfig(
                optimizer=FitOptimizer(method=ADAM, n_epochs=10), monitor=quiet
            ),
        )
        assert np.isfinite(model.posterior.laplace.covariance()).all()
        return np.asarray(model.predictive.mean(loader.to_inputs_loader()))

    np.testing.assert_allclose(mean(jnp.bfloat16), mean(jnp.float32), rtol=0.05, atol=0.05)


def test_parameters_of_float16_train_where_the_optimiser_stands_it():
    """Adam's eps, 1e-8, is 0 in float16: its first step divides by it, which is said."""
    model = trained(made("linen", (jnp.float16, jnp.float16)), optimizer=SGD)
    assert np.isfinite(model.posterior.laplace.predict(X)).all()
    with pytest.raises(hoarfrost.errors.NonFiniteError, match=r"float16.*bfloat16"):
        trained(made("linen", (jnp.float16, jnp.float16)))
    model = trained(made("linen", (jnp.float16, jnp.float16)), optimizer=optax.adam(1e-2, eps=1e-4))
    assert np.isfinite(model.posterior.laplace.predict(X)).all()
