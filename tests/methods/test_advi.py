"""ADVI: its bound in closed form, any prior, the local reparameterisation, half precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from linear_gaussian import NOISE, PRIOR, SIZE, apply, problem

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import fit_advi
from hoarfrost.methods.advi import AdviStep, Variational, _output_moments, advi_on
from hoarfrost.methods.problem import problem_of, problem_with
from hoarfrost.methods.target import BatchTarget, WholePrior
from hoarfrost.network.dense import DenseNetwork
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.training.step import PaddedBatch

STILL = optax.sgd(0.0)


def _negative_bound(model: Any, mean: np.ndarray, std: np.ndarray) -> float:
    """``-E log p(y | theta) + KL`` in float64."""
    residuals = model.y[:, 0] - model.features @ mean
    squares = residuals**2 + model.features**2 @ std**2
    expected = -0.5 * np.sum(squares) / NOISE**2 - SIZE * np.log(NOISE * np.sqrt(2 * np.pi))
    terms = PRIOR * (std**2 + mean**2) - 1 - np.log(PRIOR) - 2 * np.log(std)
    return float(0.5 * np.sum(terms) - expected)


@pytest.mark.parametrize("cache", [True, False], ids=["local", "weights"])
def test_loss_is_the_negative_evidence_bound(cache: bool) -> None:
    model = problem()
    posterior = fit_advi(
        apply,
        model.params,
        model.loader(),
        std_init_params=0.0,
        log_std_base=-2.0,
        n_loss_samples=2000,
        optimizer=STILL,
        n_epochs=8,
        cache_features=cache,
        **model.options,
    )
    expected = _negative_bound(model, model.mean, np.full(3, np.exp(-2.0)))
    losses = posterior.status["loss"]
    error = losses.std(ddof=1) / np.sqrt(len(losses))
    assert abs(losses.mean() - expected) < 5 * error
    assert error < 0.3  # of a bound near 80
    np.testing.assert_allclose(posterior.distribution.std["head"], np.exp(-2.0), rtol=1e-6)


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_standard_deviations_start_as_they_are_told(std: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 2000)).astype(np.float32)
    posterior = fit_advi(
        lambda params, inputs: inputs @ params["w"],
        {"w": jnp.zeros((2000, 1))},
        DataLoader.from_array_data((x, x[:, :1])),
        likelihood=Gaussian(noise_std=1.0),
        std_init_params=std,
        log_std_base=-3.0,
        optimizer=STILL,
        n_epochs=1,
        progress=False,
    )
    logs = np.log(posterior.distribution.std["w"])
    assert abs(logs.mean() + 3) < 5 * std / np.sqrt(2000) + 1e-6
    assert abs(logs.std() - std) < 5 * std / np.sqrt(4000) + 1e-6


def test_local_gradients_have_less_noise() -> None:
    """One draw for each point by itself, against one of the weights for all of them."""
    model = problem()
    spread = {cache: _gradients(model, cache).std(axis=0) for cache in (True, False)}
    means = [_gradients(model, cache).mean(axis=0) for cache in (True, False)]
    error = np.sqrt(spread[True] ** 2 + spread[False] ** 2) / np.sqrt(400)
    assert (np.abs(means[0] - means[1]) < 5 * error).all()
    assert spread[True].sum() < 0.7 * spread[False].sum()


class Head(nn.Module):
    """A last layer with a bias."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3, name="head")(jnp.tanh(nn.Dense(5, name="body")(x)))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "frozen bias"])
def test_outputs_have_the_moments_of_the_layer(bias: bool) -> None:
    """``a^T M + b`` and ``(a^2)^T S + s``; what is frozen has no variance."""
    x = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
    params = Head().init(jax.random.PRNGKey(3), x)
    given = problem_of(
        Head(),
        params,
        DataLoader.from_array_data((x, np.arange(6) % 3)),
        trainable=lambda path, value: "head" in path and (bias or "kernel" in path),
        cache_features=True,
        progress=False,
    )
    assert isinstance(given.subset.network, DenseNetwork)
    whole = PaddedBatch(next(iter(given.loader))[0], None, None, None, None)
    target = BatchTarget(given.subset.network, given.kind, given.given, whole)
    mean = given.whole.trainable
    std = jax.tree.map(lambda leaf: 0.1 + jnp.abs(leaf), mean)
    outputs, spread = _output_moments(target, given.subset.network, mean, std)
    body, head = (params["params"][name] for name in ("body", "head"))
    features = np.tanh(np.asarray(x @ body["kernel"] + body["bias"], np.float64))
    kernel = np.asarray(head["kernel"], np.float64)
    variance = features**2 @ (0.1 + np.abs(kernel)) ** 2
    if bias:
        variance += (0.1 + np.abs(np.asarray(head["bias"], np.float64))) ** 2
    np.testing.assert_allclose(outputs, features @ kernel + head["bias"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(spread) ** 2, variance, rtol=1e-5)


def _gradients(model: Any, cache: bool) -> np.ndarray:
    """Gradients of means and logarithms of standard deviations, ``(draws, 6)``."""
    given = problem_of(apply, model.params, model.loader(), cache_features=cache, **model.options)
    batch = next(iter(given.loader))
    inputs, targets = batch[0], batch[1]
    whole = PaddedBatch(
        inputs=jax.tree.map(jnp.asarray, inputs),
        targets=jnp.asarray(targets),
        num_points=jnp.float32(SIZE),
        weight=jnp.float32(1),
        counted=jnp.ones(SIZE, bool),
    )
    target = BatchTarget(given.subset.network, given.kind, given.given, whole)
    mean = given.whole.trainable
    log_std = jax.tree.map(lambda leaf: jnp.full_like(leaf, -2.0), mean)
    optimizer = optax.sgd(1.0)
    state = Variational(mean, log_std, optimizer.init((mean, log_std)), ())
    step = AdviStep(optimizer, 1)

    def one(key: jax.Array) -> tuple[Any, Any]:
        after, _ = step(target, state, key, (), None)
        return after.mean, after.log_std

    found = jax.vmap(one)(jax.random.split(jax.random.PRNGKey(0), 400))
    before = [mean, log_std]
    moved = [
        np.asarray(b)[None] - np.asarray(a)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(before), strict=True)
    ]
    return np.concatenate([one.reshape(400, -1) for one in moved], axis=1).astype(np.float64)


def test_any_prior_goes_by_its_density() -> None:
    model = problem()
    ours = problem_of(apply, model.params, model.loader(), **model.options)
    theirs = problem_with(
        ours.whole,
        model.loader(),
        likelihood=ours.likelihood,
        prior=WholePrior(IsotropicGaussianPrior(log_var=-np.log(PRIOR))),
        ignored_label=None,
        cache_features="auto",
        progress=False,
    )
    # Over frozen parameters, too, which adds a constant.
    frozen = np.asarray(model.params["body"], np.float64)
    constant = 0.5 * np.sum(PRIOR * frozen**2 - np.log(PRIOR) + np.log(2 * np.pi))
    options = {"std_init_params": 0.0, "log_std_base": -2.0, "optimizer": STILL}
    losses = advi_on(theirs, n_loss_samples=2000, n_epochs=8, **options).status["loss"]
    expected = _negative_bound(model, model.mean, np.full(3, np.exp(-2.0))) + constant
    assert abs(losses.mean() - expected) < 5 * losses.std(ddof=1) / np.sqrt(8)


def test_same_seed_same_bits_and_frozen_parameters_stay() -> None:
    model = problem(at_mean=False)
    once, again, other = (
        fit_advi(apply, model.params, model.loader(8), n_epochs=3, seed=seed, **model.options)
        for seed in (3, 3, 4)
    )
    first, second, third = (one.sample(0, 5)["head"] for one in (once, again, other))
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    assert np.array_equal(once.merge()["body"], model.params["body"])


@pytest.mark.parametrize(("std", "rtol"), [(1e-4, 1e-3), (1.0, 0.05)])
def test_half_precision_keeps_small_spreads_and_large_features(std: float, rtol: float) -> None:
    """Squares of features and variances of outputs overflow float16, variances vanish in it."""
    x = np.full((8, 2), 300, np.float16)
    posterior = fit_advi(
        lambda params, inputs: (inputs * params["scale"]) @ params["w"],
        {"scale": jnp.ones((), jnp.float16), "w": jnp.zeros((2, 1), jnp.float16)},
        DataLoader.from_array_data((x, np.zeros((8, 1), np.float32))),
        likelihood=Gaussian(noise_std=1.0),
        trainable=lambda path, value: path == ("w",),
        cache_features=True,
        std_init_params=0.0,
        log_std_base=float(np.log(std)),
        n_loss_samples=2000,
        optimizer=STILL,
        n_epochs=1,
        progress=False,
    )
    np.testing.assert_allclose(posterior.distribution.std["w"], std, rtol=1e-5)
    # 8 points of variance 2 (300 std)^2, and the divergence of two parameters.
    expected = 4 * (2 * (300 * std) ** 2 + np.log(2 * np.pi)) + std**2 - 1 - 2 * np.log(std)
    np.testing.assert_allclose(posterior.status["loss"], expected, rtol=rtol)
    assert posterior.sample(0, 2)["w"].dtype == np.float16


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"std_init_params": -1.0}, "std_init_params"),
        ({"log_std_base": np.nan}, "log_std_base"),
        ({"n_loss_samples": 0}, "n_loss_samples"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"optimizer": 3}, "optimizer"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_wrong_arguments_are_said_before_the_data_are_read(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        fit_advi(apply, {}, None, **options)
