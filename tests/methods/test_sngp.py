"""SNGP: random features against their kernel, and their posterior against dense algebra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from same_network import KINDS, WIDTH, arrays, function, network, outputs_of, plain
from scipy.special import softmax

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import HoarfrostError, InvalidArgumentError, ShapeError
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import WeightPosterior, fit_sngp
from hoarfrost.network.random_features import random_features

SIZE, DIMENSION, FEATURES, CLASSES = 18, 4, 7, 3
RNG = np.random.default_rng(21)
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, SIZE)
T = RNG.normal(size=(SIZE, 1)).astype(np.float32)
PARAMS = arrays(DIMENSION)
ADAM = optax.adam(1e-2)
NOISE = 0.4
ATOL = 2e-5


def _fit(kind: str = "function", targets: Any = Y, **options: Any) -> WeightPosterior:
    model, params = network(kind, PARAMS)
    given = {
        "output_dim": 1 if targets is T else CLASSES,
        "gp_hidden_features": FEATURES,
        "n_epochs": 3,
        "optimizer": ADAM,
        "likelihood": Gaussian(noise_std=NOISE) if targets is T else "categorical",
        "progress": False,
        **options,
    }
    loader = given.pop("loader", None) or DataLoader.from_array_data((X, targets), batch_size=6)
    return fit_sngp(model, params, loader, **given)


def _features(posterior: WeightPosterior, x: np.ndarray, normalise: bool = False) -> np.ndarray:
    """``sqrt(2 / m) cos(h W + b)`` in float64, ``(N, m)``."""
    merged = posterior.merge()
    hidden = outputs_of(plain(merged["model"]), x)
    if normalise:
        hidden -= hidden.mean(axis=1, keepdims=True)
        hidden /= np.sqrt((hidden**2).mean(axis=1, keepdims=True) + 1e-6)
    gp = {name: np.asarray(leaf, np.float64) for name, leaf in merged["gp"].items()}
    return np.sqrt(2 / gp["phases"].size) * np.cos(hidden @ gp["frequencies"] + gp["phases"])


# --- the kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 6])
def test_random_features_have_the_gaussian_kernel_of_length_root_of_the_width(width: int) -> None:
    count = 40_000
    gp = {
        name: np.asarray(leaf, np.float64)
        for name, leaf in random_features(width, count, 1, jax.random.key(3)).items()
    }
    h = RNG.normal(size=(8, width)) * 2
    features = np.sqrt(2 / count) * np.cos(h @ gp["frequencies"] + gp["phases"])
    squares = ((h[:, None] - h[None]) ** 2).sum(-1)
    # The variance of one of its terms, 2 cos cos, is at most 3 / 2.
    np.testing.assert_allclose(
        features @ features.T, np.exp(-squares / (2 * width)), atol=5 * np.sqrt(1.5 / count)
    )


def test_it_is_the_regression_of_a_gaussian_process_with_the_kernel_of_its_features() -> None:
    """In the space of the points, of which there are fewer than features."""
    points = RNG.normal(size=(5, WIDTH)).astype(np.float32)
    ridge = 1.3
    posterior = _fit(
        targets=T,
        trainable=lambda path, value: False,
        gp_hidden_features=40,
        ridge_penalty=ridge,
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-2, 800)),
        n_epochs=800,
        loader=DataLoader.from_array_data((X, T)),
    )
    own, at = (_features(posterior, x) / np.sqrt(ridge) for x in (X, points))
    gram = own @ own.T + NOISE**2 * np.eye(SIZE)
    mean = at @ own.T @ np.linalg.solve(gram, T.astype(np.float64))
    covariance = at @ at.T - at @ own.T @ np.linalg.solve(gram, own @ at.T)
    laplace = posterior.distribution.laplace
    found = laplace.functional_covariance(points, joint=True).reshape(5, 5)
    np.testing.assert_allclose(found, covariance, rtol=0, atol=1e-5)
    # As near as training comes.
    np.testing.assert_allclose(laplace.predict_regression(points).mean, mean, rtol=0, atol=1e-3)


# --- the posterior of the output weights ---------------------------------------------------------


@pytest.mark.parametrize("normalise", [False, True])
def test_the_precision_is_that_of_a_ridge_regression_on_the_features(normalise: bool) -> None:
    posterior = _fit(targets=T, ridge_penalty=0.8, normalize_input=normalise)
    features = _features(posterior, X, normalise)
    expected = features.T @ features / NOISE**2 + 0.8 * np.eye(FEATURES)
    np.testing.assert_allclose(
        posterior.distribution.laplace.precision(), expected, rtol=0, atol=1e-4
    )


def test_that_of_classes_is_the_curvature_of_a_softmax_at_the_map() -> None:
    posterior = _fit(ridge_penalty=0.6)
    features = _features(posterior, X)
    weights = np.asarray(posterior.mean["gp"]["kernel"], np.float64)
    p = softmax(features @ weights, axis=1)
    curvature = np.einsum("nc,cd->ncd", p, np.eye(CLASSES)) - p[:, :, None] * p[:, None]
    expected = np.einsum("ni,nj,ncd->icjd", features, features, curvature)
    expected = expected.reshape(2 * [FEATURES * CLASSES]) + 0.6 * np.eye(FEATURES * CLASSES)
    np.testing.assert_allclose(
        posterior.distribution.laplace.precision(), expected, rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
def test_draws_have_its_inverse_times_the_mean_field_factor(factor: float) -> None:
    posterior = _fit(targets=T, mean_field_factor=factor)
    features = _features(posterior, X)
    precision = features.T @ features / NOISE**2 + np.eye(FEATURES)
    drawn = np.asarray(posterior.sample(1, 4000)["gp"]["kernel"], np.float64)[..., 0]
    centred = drawn - np.asarray(posterior.mean["gp"]["kernel"], np.float64)[:, 0]
    whitened = centred @ np.linalg.cholesky(precision)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=5 * np.sqrt(factor / 4000) + 1e-7)
    np.testing.assert_allclose(
        whitened.T @ whitened / 4000, factor * np.eye(FEATURES), atol=5 * factor * np.sqrt(2 / 4000)
    )
    # And the outputs under as many draws.
    found = posterior.functional_covariance(X[:4], 2000, seed=2)[:, 0, 0]
    expected = factor * np.einsum(
        "ni,ij,nj->n", features[:4], np.linalg.inv(precision), features[:4]
    )
    np.testing.assert_allclose(found, expected, rtol=5 * np.sqrt(2 / 2000))


# --- training ------------------------------------------------------------------------------------


def test_what_is_selected_of_the_model_is_trained_beside_the_output_weights() -> None:
    for selector, moves in (
        (None, ("body", "head")),
        (lambda path, value: "head" in path, ("head",)),
        (lambda path, value: False, ()),
    ):
        merged = plain(_fit(trainable=selector).merge()["model"])
        for layer in ("body", "head"):
            same = [
                np.array_equal(merged[layer][name], PARAMS[layer][name]) for name in PARAMS[layer]
            ]
            assert all(same) if layer not in moves else not any(same)


def test_linen_nnx_and_a_function_give_the_same_numbers() -> None:
    found = [_fit(kind) for kind in KINDS]
    for other in found[1:]:
        np.testing.assert_allclose(other.predict(X, 9), found[0].predict(X, 9), atol=2e-4)
        for name, leaf in found[0].merge()["gp"].items():
            np.testing.assert_allclose(other.merge()["gp"][name], leaf, rtol=0, atol=ATOL)


@pytest.mark.parametrize("chosen", ["none", "head"])
def test_the_frozen_part_may_run_once_or_at_each_step(chosen: str) -> None:
    once, each = (
        _fit(trainable=lambda path, value: chosen in path, cache_features=cache)
        for cache in (True, False)
    )
    assert once.status["features"].startswith("cached")
    for one, other in zip(*map(jax.tree.leaves, (once.merge(), each.merge())), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)


def test_same_seed_same_bits_and_another_seed_other_features() -> None:
    once, again, other = (_fit(seed=seed).merge() for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, once, again)
    for name in ("frequencies", "phases", "kernel"):
        assert not np.array_equal(once["gp"][name], other["gp"][name])


def test_priors_of_the_model_may_be_trees_of_its_own() -> None:
    tree = jax.tree.map(lambda leaf: 2.0 * np.ones(leaf.shape, np.float32), PARAMS)
    number, leaves = (_fit(prior_precision=value).merge() for value in (2.0, tree))
    for one, other in zip(*map(jax.tree.leaves, (number, leaves)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)


def test_without_the_frozen_parameters_a_file_asks_for_what_merge_gives(tmp_path: Path) -> None:
    posterior = _fit("linen")
    posterior.save(tmp_path / "file", frozen=False)
    model, params = network("linen", PARAMS)
    with pytest.raises(InvalidArgumentError, match="params is needed"):
        hoarfrost.load_posterior(tmp_path / "file", model=model)
    with pytest.raises(InvalidArgumentError, match=r"give what its merge\(\) gives"):
        hoarfrost.load_posterior(tmp_path / "file", model=model, params=params)
    again = hoarfrost.load_posterior(tmp_path / "file", model=model, params=posterior.merge())
    np.testing.assert_array_equal(posterior.predict(X, 5), again.predict(X, 5))


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"output_dim": 0}, InvalidArgumentError, "output_dim is 0"),
        ({"gp_hidden_features": 2.5}, InvalidArgumentError, r"gp_hidden_features is 2\.5"),
        ({"normalize_input": "no"}, InvalidArgumentError, "normalize_input must be .* 'no'"),
        (
            {"ridge_penalty": 0.0},
            InvalidArgumentError,
            r"ridge_penalty must be .* above 0, but it is 0\.0",
        ),
        (
            {"mean_field_factor": -1.0},
            InvalidArgumentError,
            r"mean_field_factor must be .*, but it is -1\.0",
        ),
        ({"momentum": 0.9}, InvalidArgumentError, r"momentum is 0\.9.*leave it out"),
        ({"n_epochs": 0}, InvalidArgumentError, "n_epochs is 0"),
        ({"optimizer": 3}, InvalidArgumentError, "optimizer is 3"),
        ({"seed": -1}, InvalidArgumentError, "seed is -1"),
        ({"prior_precision": -1.0}, InvalidArgumentError, "prior_precision"),
        ({"prior_precision": {"w": 1.0}}, HoarfrostError, "prior_precision"),
        ({"prior_mean": np.nan}, HoarfrostError, "prior_mean"),
        ({"output_dim": 2}, HoarfrostError, "labels|targets"),
        ({"trainable": "some"}, HoarfrostError, "trainable is 'some'"),
        ({"cache_features": 1}, InvalidArgumentError, "cache_features is 1"),
        ({"progress": 1}, InvalidArgumentError, "progress must be True or False"),
        ({"ignored_label": "x"}, InvalidArgumentError, "ignored_label is 'x'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        _fit(**options)


def test_errors_of_arguments_come_before_the_data_are_read() -> None:
    for options in ({"n_epochs": 0}, {"optimizer": 3}, {"seed": 1.5}):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            fit_sngp(function, {}, None, output_dim=2, **options)


def test_a_model_without_hidden_features_for_each_point_is_an_error() -> None:
    def tokens(params: Any, x: Any) -> Any:
        return jnp.stack([function(params, x)] * 2, axis=1)

    with pytest.raises(ShapeError, match=r"outputs have shape \(6, 2, 4\).*hidden features"):
        fit_sngp(
            tokens,
            PARAMS,
            DataLoader.from_array_data((X, Y), batch_size=6),
            output_dim=CLASSES,
            progress=False,
        )
