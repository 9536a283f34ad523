"""SWAG: which iterates it is made of, their spread in closed form, statistics under its draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from linear_gaussian import NOISE, SIZE, apply, problem

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods import fit_swag
from hoarfrost.methods.epochs import Monitoring
from hoarfrost.methods.problem import problem_of
from hoarfrost.methods.restate import statistics_under
from hoarfrost.methods.swag import swag_on
from hoarfrost.training.monitor import EarlyStopping

RNG = np.random.default_rng(3)
X = (3 + 2 * RNG.normal(size=(30, 4))).astype(np.float32)
Y = RNG.integers(0, 3, 30)
MOMENTUM = 0.9


class Normed(nn.Module):
    """A hidden layer under BatchNorm."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Dense(5, name="hidden")(x)
        norm = nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, name="norm")
        return nn.Dense(3, name="head")(nn.relu(norm(x)))


class Spectral(nn.Module):
    """A layer divided by its largest singular value, below 1, which power iterations find."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        return nn.SpectralNorm(nn.Dense(3, use_bias=False))(x, update_stats=train)


class Dropped(nnx.Module):
    """BatchNorm beside random state of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def _loader() -> DataLoader:
    return DataLoader.from_array_data((X, Y), batch_size=10)


def _fitted(model: Any, scale: float = 1.0, **options: Any) -> Any:
    params = None
    if isinstance(model, nn.Module):
        params = model.init(jax.random.PRNGKey(1), X)
        params["params"] = jax.tree.map(lambda leaf: scale * leaf, params["params"])
    given = {"rank": 2, "n_epochs": 4, "optimizer": optax.sgd(1e-3, 0.9), **options}
    return fit_swag(model, params, _loader(), progress=False, **given)


@pytest.mark.parametrize(("burnin", "every"), [(0, None), (4, None), (4, 3)])
def test_moments_are_those_of_the_collected_iterates(burnin: int, every: int | None) -> None:
    model, rate, rank = problem(at_mean=False), 1e-3, 4
    posterior = fit_swag(
        apply,
        model.params,
        model.loader(),
        rank=rank,
        optimizer=optax.sgd(rate),
        n_epochs=24,
        burnin_epochs=burnin,
        collect_every=every,
        **model.options,
    )
    # One batch of all data: plain gradient ascent on a quadratic.
    theta, iterates = np.zeros(3), []
    for _ in range(24):
        theta = theta - rate * model.precision @ (theta - model.mean)
        iterates.append(theta)
    kept = np.stack(iterates)[burnin:][(every or 1) - 1 :: every or 1]
    assert posterior.status["collected"] == len(kept)
    places = range(len(kept) - rank, len(kept))
    running = np.stack([kept[place] - kept[: place + 1].mean(axis=0) for place in places])
    found = posterior.distribution
    close = {"rtol": 0, "atol": 2e-6}
    np.testing.assert_allclose(found.mean["head"][:, 0], kept.mean(axis=0), **close)
    np.testing.assert_allclose(found.std["head"][:, 0], kept.std(axis=0) / np.sqrt(2), **close)
    scaled = running / np.sqrt(2 * (rank - 1))
    np.testing.assert_allclose(found.deviations["head"][..., 0], scaled, **close)


def test_spread_of_independent_batches_is_that_of_their_noise() -> None:
    """``S = (I - e A) S (I - e A) + e^2 G``, to first order ``A S + S A = e G``."""
    model, batch, rate = problem(), 10, 5e-4
    drawn = np.random.default_rng(5)

    def batches() -> Iterator[Any]:
        for _ in range(SIZE // batch):
            rows = drawn.integers(0, SIZE, batch)
            yield model.x[rows], model.y[rows]

    posterior = fit_swag(
        apply,
        model.params,
        DataLoader.from_callable_iterable(batches),
        rank=1500,
        optimizer=optax.sgd(rate),
        n_epochs=1600,
        **model.options,
    )
    residuals = model.y[:, 0] - model.features @ model.mean
    gradients = residuals[:, None] * model.features / NOISE**2
    noise = SIZE**2 / batch * np.cov(gradients.T, bias=True)
    decay = np.eye(3) - rate * model.precision
    spread = np.linalg.solve(np.eye(9) - np.kron(decay, decay), rate**2 * noise.ravel())
    spread = spread.reshape(3, 3)
    scale = np.sqrt(np.outer(np.diag(spread), np.diag(spread)))
    diagonal = 2 * np.asarray(posterior.distribution.std["head"][:, 0], np.float64) ** 2
    np.testing.assert_allclose(diagonal, np.diag(spread), rtol=0.15)
    low_rank = np.asarray(posterior.distribution.deviations["head"][..., 0], np.float64)
    np.testing.assert_allclose(2 * low_rank.T @ low_rank / scale, spread / scale, atol=0.15)
    assert np.abs(posterior.mean["head"][:, 0] - model.mean).max() < np.sqrt(spread.max()) / 4
    # Draws have the diagonal once and what is off it by half.
    draws = np.asarray(posterior.sample(1, 20_000)["head"][..., 0], np.float64)
    drawn_scale = np.cov(draws.T) / scale
    expected = (spread + np.diag(np.diag(spread))) / 2 / scale
    np.testing.assert_allclose(drawn_scale, expected, atol=0.15)


def test_same_seed_same_bits_and_frozen_parameters_stay() -> None:
    model = problem(at_mean=False)
    once, again, other = (
        fit_swag(apply, model.params, model.loader(8), n_epochs=8, seed=seed, **model.options)
        for seed in (3, 3, 4)
    )
    first, second, third = (one.sample(0, 5)["head"] for one in (once, again, other))
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    assert np.array_equal(once.merge()["body"], model.params["body"])


def test_the_frozen_part_run_once_gives_the_same_numbers() -> None:
    model = problem(at_mean=False)
    kept, whole = (
        fit_swag(
            apply,
            model.params,
            model.loader(8),
            n_epochs=8,
            optimizer=optax.sgd(1e-3),
            cache_features=cached,
            **model.options,
        )
        for cached in (True, False)
    )
    assert "cached: " in kept.status["features"] and "not cached" in whole.status["features"]
    for name in ("mean", "std", "deviations"):
        found, expected = (getattr(one.distribution, name)["head"] for one in (kept, whole))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_batch_statistics_are_those_of_the_data_under_each_draw() -> None:
    posterior = _fitted(Normed())
    samples = posterior.weight_samples(3, seed=2)
    found = {"mean": samples.own[0], "var": samples.own[1]}
    batches = [np.asarray(X[start : start + 10], np.float64) for start in (0, 10, 20)]
    for place in range(3):
        layer = jax.tree.map(lambda leaf, place=place: leaf[place], samples.trainable)
        hidden = layer["params"]["hidden"]
        kernel, bias = np.asarray(hidden["kernel"], np.float64), np.asarray(hidden["bias"])
        values = [batch @ kernel + bias for batch in batches]
        mean = np.mean([one.mean(axis=0) for one in values], axis=0)
        var = np.mean([one.var(axis=0) for one in values], axis=0)
        # Flax takes variances as differences of squares.
        size = np.max([np.mean(one**2, axis=0) for one in values])
        eps = 64 * np.finfo(np.float32).eps / (1 - MOMENTUM)
        np.testing.assert_allclose(found["mean"][place], mean, rtol=0, atol=eps * np.sqrt(size))
        np.testing.assert_allclose(found["var"][place], var, rtol=0, atol=eps * size)
    # The mean's own are those that the posterior's network holds.
    own = statistics_under(
        posterior.subset,
        posterior.moving,
        jax.tree.map(lambda leaf: leaf[None], posterior.mean),
        _loader(),
    )
    held = posterior.subset.mutable["batch_stats"]["norm"]
    np.testing.assert_allclose(held["mean"], own[0][0], rtol=1e-5)
    np.testing.assert_allclose(held["var"], own[1][0], rtol=1e-5)


def test_a_spectral_norm_goes_on_with_its_power_iterations() -> None:
    posterior = _fitted(Spectral(), scale=0.3, n_epochs=12, optimizer=optax.sgd(1e-5))
    samples = posterior.weight_samples(2)
    sigma = samples.own[0]
    for place, kernel in enumerate(jax.tree.leaves(samples.trainable)[0]):
        largest = np.linalg.svd(np.asarray(kernel), compute_uv=False)[0]
        assert largest < 1
        np.testing.assert_allclose(sigma[place], largest, rtol=0.02)


def test_random_state_beside_statistics_stays() -> None:
    posterior = _fitted(Dropped(nnx.Rngs(0)))
    found = posterior.predict(X[:5], 3)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(found, posterior.predict(X[:5], 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 1}, "rank"),
        ({"rank": 2.5}, "rank"),
        ({"n_epochs": 5}, "n_epochs is 5, which collects 5"),
        ({"n_epochs": 9, "burnin_epochs": 4}, "collects 5"),
        ({"burnin_epochs": -1}, "burnin_epochs"),
        ({"collect_every": 0}, "collect_every"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_arguments_are_said_before_the_data_are_read(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        fit_swag(apply, {}, None, **options)


def test_too_few_iterates_are_said() -> None:
    model = problem()
    with pytest.raises(InvalidArgumentError, match="collects 2 iterates"):
        fit_swag(apply, model.params, model.loader(), n_epochs=10, collect_every=4, **model.options)
    stopping = Monitoring(early_stopping=EarlyStopping(monitor="loss", patience=2))
    with pytest.raises(InvalidArgumentError, match="early_stopping ended SWAG after"):
        # At the mean the loss stays what it is.
        swag_on(
            problem_of(apply, model.params, model.loader(), **model.options),
            optimizer=optax.sgd(1e-3),
            monitoring=stopping,
        )


def test_half_precision_keeps_the_spread() -> None:
    x, y = jnp.asarray(X, jnp.bfloat16), np.asarray(Y)
    posterior = fit_swag(
        lambda params, inputs: inputs @ params["w"],
        {"w": jnp.ones((4, 3), jnp.bfloat16)},
        DataLoader.from_array_data((x, y), batch_size=10),
        rank=2,
        n_epochs=6,
        optimizer=optax.sgd(1e-2),
        progress=False,
    )
    assert posterior.distribution.std["w"].dtype == np.float32
    assert posterior.sample(0, 2)["w"].dtype == jnp.bfloat16
