"""Every method against the closed-form posterior of a linear model, its known bias named."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear_gaussian import NOISE, PRIOR, SIZE, Exact, apply, problem

from hoarfrost.methods import (
    fit_advi,
    fit_ensemble,
    fit_ivon,
    fit_map,
    fit_swag,
    sample_cyclical_sgld,
    sample_sghmc,
)
from hoarfrost.methods.swag import Moments

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def exact() -> Exact:
    """A model at its posterior mean."""
    return problem()


@pytest.fixture(scope="module")
def at_zero() -> Exact:
    """The same model at zero."""
    return problem(at_mean=False)


def _is_standard_normal(z: np.ndarray, effective: float) -> None:
    """Mean and covariance within four standard errors of so many independent draws."""
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=4 / np.sqrt(effective))
    np.testing.assert_allclose(np.cov(z.T), np.eye(z.shape[1]), atol=4 * np.sqrt(2 / effective))


@pytest.mark.parametrize("size", [1e-3, 3e-3])
@pytest.mark.parametrize("decay", [0.1, 1.0])
def test_sghmc_has_the_exact_covariance_at_any_stable_step(
    exact: Exact, size: float, decay: float
) -> None:
    posterior = sample_sghmc(
        apply,
        exact.params,
        exact.loader(),
        n_samples=400,
        n_thinning=20,
        burnin_length=200,
        momentum_decay=decay,
        step_schedule=size,
        num_chains=20,
        **exact.options,
    )
    draws = posterior.weight_samples().trainable["head"]
    # 20 steps apart; what is left of the correlation is in the factor.
    _is_standard_normal(exact.whitened(draws), len(draws) / 4)


def test_cyclical_sgld_at_small_steps_has_the_exact_covariance(exact: Exact) -> None:
    posterior = sample_cyclical_sgld(
        apply,
        exact.params,
        exact.loader(),
        n_samples=100,
        n_thinning=25,
        cycle_length=1000,
        num_cycles=4,
        exploration_ratio=0.1,
        init_step_size=2e-3,
        num_chains=40,
        **exact.options,
    )
    draws = posterior.weight_samples().trainable["head"]
    _is_standard_normal(exact.whitened(draws), len(draws) / 6)


def test_map_is_the_mean(exact: Exact, at_zero: Exact) -> None:
    posterior = fit_map(
        apply,
        at_zero.params,
        at_zero.loader(),
        optimizer=optax.adam(3e-2),
        n_epochs=600,
        **at_zero.options,
    )
    np.testing.assert_allclose(posterior.mean["head"][:, 0], exact.mean, rtol=0, atol=1e-5)
    # A point mass: nothing is uncertain.
    assert posterior.functional_variance(exact.x[:4]).max() == 0


def test_members_on_all_data_are_the_mean_and_do_not_spread(exact: Exact, at_zero: Exact) -> None:
    posterior = _ensemble(at_zero, bootstrap=False)
    members = posterior.distribution.listed.trainable["head"][..., 0]
    np.testing.assert_allclose(members, np.tile(exact.mean, (4, 1)), rtol=0, atol=1e-3)


def test_members_on_resampled_data_solve_their_own_least_squares(at_zero: Exact) -> None:
    posterior = _ensemble(at_zero, bootstrap=True)
    members = posterior.distribution.listed.trainable["head"][..., 0]
    # The rows that the seed draws for each member.
    from hoarfrost.checks import check_key, seed_from_key

    rng = np.random.default_rng((seed_from_key(check_key(0)), 2**31))
    rows = rng.integers(0, SIZE, (4, SIZE), dtype=np.int32)
    for member, own in zip(members, rows, strict=True):
        features, y = at_zero.features[own], at_zero.y[own, 0]
        precision = features.T @ features / NOISE**2 + PRIOR * np.eye(3)
        mean = np.linalg.solve(precision, features.T @ y / NOISE**2)
        np.testing.assert_allclose(member, mean, rtol=0, atol=1e-4)


def _ensemble(at_zero: Exact, *, bootstrap: bool) -> Any:
    def init(key: jax.Array) -> dict[str, Any]:
        return {**at_zero.params, "head": jax.random.normal(key, (3, 1))}

    return fit_ensemble(
        apply,
        at_zero.params,
        at_zero.loader(),
        ensemble_size=4,
        init=init,
        optimizer=optax.adam(optax.cosine_decay_schedule(5e-2, 1000)),
        n_epochs=1000,
        bootstrap=bootstrap,
        **at_zero.options,
    )


@pytest.mark.parametrize("cache", ["auto", False], ids=["local", "weights"])
def test_advi_is_the_mean_field_optimum(exact: Exact, at_zero: Exact, cache: Any) -> None:
    posterior = fit_advi(
        apply,
        at_zero.params,
        at_zero.loader(),
        optimizer=optax.adam(optax.cosine_decay_schedule(5e-2, 3000)),
        n_loss_samples=20,
        n_epochs=3000,
        cache_features=cache,
        **at_zero.options,
    )
    _is_mean_field(posterior, exact, tolerance=0.03)


def test_ivon_ends_where_advi_does(exact: Exact, at_zero: Exact) -> None:
    posterior = fit_ivon(
        apply,
        at_zero.params,
        at_zero.loader(),
        beta2=0.999,
        mc_samples=4,
        n_epochs=4000,
        **at_zero.options,
    )
    _is_mean_field(posterior, exact, tolerance=0.05)


def _is_mean_field(posterior: Any, exact: Exact, tolerance: float) -> None:
    """Each parameter's spread given all others: known to be too small where they correlate."""
    std = 1 / np.sqrt(np.diag(exact.precision))
    marginal = np.sqrt(np.diag(np.linalg.inv(exact.precision)))
    assert (std < marginal).all()
    # Both are to within the noise of the last gradients.
    distance = np.abs(posterior.mean["head"][:, 0] - exact.mean) / std
    assert distance.max() < 0.1
    np.testing.assert_allclose(posterior.distribution.std["head"][:, 0], std, rtol=tolerance)
    draws = posterior.sample(3, 20_000)["head"][..., 0]
    centred = (np.asarray(draws, np.float64) - posterior.mean["head"][:, 0]) / std
    np.testing.assert_allclose(np.cov(centred.T), np.eye(3), atol=2 * tolerance + 0.04)


def test_swag_is_the_moments_of_the_iterates() -> None:
    rng = np.random.default_rng(0)
    iterates = (1000 + rng.normal(size=(9, 1, 4, 2))).astype(np.float32)
    moments = Moments(rank=3, burnin=2)
    like = {"w": jnp.zeros((4, 2))}
    assert list(moments.stops(per_epoch=1, n_epochs=9)) == [3, 4, 5, 6, 7, 8, 9]
    for one in iterates[2:]:
        moments.add(_Iterate({"w": jnp.asarray(one)}))
    gaussian = moments.gaussian(like)
    kept = iterates[2:, 0].astype(np.float64)
    np.testing.assert_allclose(gaussian.mean["w"], kept.mean(axis=0), rtol=2 * EPS)
    # Welford's sums lose nothing to the large mean but its own rounding.
    np.testing.assert_allclose(
        gaussian.std["w"], np.sqrt(kept.var(axis=0) / 2), rtol=0, atol=1000 * 16 * EPS
    )
    running = np.stack([kept[place] - kept[: place + 1].mean(axis=0) for place in (4, 5, 6)])
    low_rank = np.einsum("kab,kcd->abcd", running, running) / (2 * (3 - 1))
    found = np.einsum("kab,kcd->abcd", *2 * [np.asarray(gaussian.deviations["w"], np.float64)])
    np.testing.assert_allclose(found, low_rank, rtol=0, atol=1000 * 16 * EPS)
    draws = np.asarray(gaussian.draw(jax.random.PRNGKey(0), 40_000).trainable["w"], np.float64)
    flat = (draws - draws.mean(axis=0)).reshape(len(draws), -1)
    expected = low_rank.reshape(8, 8) + np.diag(kept.var(axis=0).ravel() / 2)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(flat.T @ flat / len(flat) / scale, expected / scale, atol=0.03)


class _Iterate:
    """A state as far as SWAG looks at it."""

    def __init__(self, trainable: Any) -> None:
        self.trainable = trainable


def test_swag_of_plain_gradients_has_the_spread_of_their_noise(exact: Exact) -> None:
    """Mandt, Hoffman and Blei (2017): ``A S + S A = e A S A + e G`` for batches drawn anew."""
    batch, rate = 10, 2e-4
    posterior = fit_swag(
        apply,
        exact.params,
        exact.loader(batch),
        optimizer=optax.sgd(rate),
        n_epochs=3000,
        **exact.options,
    )
    residuals = (exact.y[:, 0] - exact.features @ exact.mean)[:, None] * exact.features / NOISE**2
    # Batches without replacement, so that the noise of a pass nearly adds up to nothing: the spread
    # at its end is far below that of independent batches, which is the bias of SWAG by epochs.
    noise = SIZE**2 / batch * np.cov(residuals.T)
    bound = rate * np.trace(np.linalg.solve(exact.precision, noise)) / 2
    spread = 2 * np.sum(np.asarray(posterior.distribution.std["head"], np.float64) ** 2)
    assert 0 < spread < bound
    np.testing.assert_allclose(posterior.mean["head"][:, 0], exact.mean, atol=5e-3)
