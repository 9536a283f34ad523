"""Chains on logistic regressions, against quadrature and against NUTS of blackjax.

Few points and a wide prior, so that the posteriors are far from the Gaussian at their mode.
Standard errors are those of chains that are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit

from hoarfrost.data import DataLoader
from hoarfrost.methods import sample_cyclical_sgld, sample_sghmc

CHAINS = 50
PRIOR = 0.3


@dataclass(frozen=True)
class Moments:
    """Estimates of each chain: means ``(chains, d)``, and covariances about a known mean."""

    mean: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of(draws: Any, mean: np.ndarray) -> Moments:
        """Of draws ``(chains, samples, d)``."""
        z = np.asarray(draws, np.float64) - mean
        return Moments(z.mean(axis=1), np.einsum("csi,csj->cij", z, z) / z.shape[1])


def _agree(ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray, smallest: float) -> None:
    """Means over chains within four standard errors, themselves small in units of the spread."""
    parts = [(each.mean(axis=0), each.var(axis=0, ddof=1) / len(each)) for each in (ours, theirs)]
    error = np.sqrt(parts[0][1] + parts[1][1])
    assert (error / scale).max() < smallest
    assert (np.abs(parts[0][0] - parts[1][0]) < 4 * error).all()


SAMPLERS: dict[str, Callable[..., Any]] = {
    "sghmc": lambda *args, **options: sample_sghmc(
        *args,
        n_samples=100,
        n_thinning=30,
        burnin_length=300,
        momentum_decay=0.1,
        step_schedule=0.01,
        num_chains=CHAINS,
        **options,
    ),
    "cyclical sgld": lambda *args, **options: sample_cyclical_sgld(
        *args,
        n_samples=100,
        n_thinning=25,
        cycle_length=800,
        num_cycles=4,
        exploration_ratio=0.1,
        init_step_size=0.05,
        num_chains=CHAINS,
        **options,
    ),
}


# --- two parameters: quadrature ------------------------------------------------------------------


def slopes(params: Any, x: Any) -> Any:
    """One logit: a frozen layer, and two slopes on it."""
    return (x @ params["body"]) @ params["head"]


def _two() -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 2)).astype(np.float32)
    body = np.array([[1.0, 0.5], [0.0, 1.0]], np.float32)
    y = (rng.random((12, 1)) < 1 / (1 + np.exp(-x @ body @ [[2.0], [1.0]]))).astype(np.int32)
    return {"body": jnp.asarray(body), "head": jnp.zeros((2, 1))}, x, y


def _quadrature(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mode, mean and covariance of two slopes, by the trapezoidal rule on a grid."""
    sign = np.where(y[:, 0] == 1, 1.0, -1.0)

    def log_joint(w: np.ndarray) -> np.ndarray:
        return log_expit(sign * (w @ x.T)).sum(-1) - PRIOR / 2 * (w**2).sum(-1)

    mode = minimize(lambda w: -log_joint(w), np.zeros(2), tol=1e-10).x
    moments = []
    for count in (300, 600):
        axis = np.linspace(-16, 16, count)
        grid = mode + np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        weights = np.exp(log_joint(grid) - log_joint(mode))
        weights /= weights.sum()
        mean = weights @ grid
        moments.append((mean, np.einsum("n,ni,nj->ij", weights, grid - mean, grid - mean)))
    for one, other in zip(*moments, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    return mode, *moments[1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_slopes_have_the_moments_of_quadrature(sampler: str) -> None:
    params, x, y = _two()
    posterior = SAMPLERS[sampler](
        slopes,
        params,
        DataLoader.from_array_data((x, y)),
        likelihood="bernoulli",
        trainable=lambda path, value: path == ("head",),
        prior_precision=PRIOR,
        progress=False,
    )
    mode, mean, covariance = _quadrature(x.astype(np.float64) @ np.asarray(params["body"]), y)
    std = np.sqrt(np.diag(covariance))
    # A Gaussian at the mode would not pass.
    assert (np.abs(mode - mean) / std).max() > 0.2
    draws = posterior.weight_samples().trainable["head"].reshape(CHAINS, -1, 2)
    found = Moments.of(draws, mean)
    _agree(found.mean, np.zeros((2, 2)), std, 0.04)
    _agree(found.covariance, np.stack([covariance] * 2), np.outer(std, std), 0.06)


# --- nine parameters: NUTS -----------------------------------------------------------------------


def softmax(params: Any, x: Any) -> Any:
    """Three logits."""
    return x @ params["kernel"] + params["bias"]


def _three() -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(24, 2)).astype(np.float32)
    logits = x @ np.array([[2.0, 0.0, -1.0], [0.0, 1.5, -1.0]]) + rng.gumbel(size=(24, 3))
    return {"bias": jnp.zeros(3), "kernel": jnp.zeros((2, 3))}, x, logits.argmax(axis=1)


def _by_nuts(params: Any, x: np.ndarray, y: np.ndarray, chains: int, samples: int) -> np.ndarray:
    """Draws ``(chains, samples, 9)``, the leaves in order."""

    def log_joint(params: Any) -> jax.Array:
        found = jax.nn.log_softmax(softmax(params, x))[jnp.arange(len(y)), y].sum()
        return found - PRIOR / 2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

    kernel = blackjax.nuts(log_joint, step_size=0.5, inverse_mass_matrix=jnp.ones(9))

    def chain(key: jax.Array) -> Any:
        def step(state: Any, key: jax.Array) -> tuple[Any, Any]:
            state, _ = kernel.step(key, state)
            return state, state.position

        keys = jax.random.split(key, samples + 50)
        return jax.lax.scan(step, kernel.init(params), keys)[1]

    drawn = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(8), chains))
    leaves = [leaf[:, 50:].reshape(chains, samples, -1) for leaf in jax.tree.leaves(drawn)]
    return np.concatenate(leaves, axis=-1, dtype=np.float64)


@pytest.fixture(scope="module")
def nuts() -> np.ndarray:
    """Draws of the posterior of `_three`."""
    return _by_nuts(*_three(), chains=40, samples=300)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_minibatches_at_small_steps_have_the_moments_of_nuts(
    sampler: str, nuts: np.ndarray
) -> None:
    params, x, y = _three()
    posterior = SAMPLERS[sampler](
        softmax,
        params,
        DataLoader.from_array_data((x, y), batch_size=12),
        prior_precision=PRIOR,
        progress=False,
    )
    draws = [
        np.asarray(leaf).reshape(CHAINS, 100, -1)
        for leaf in jax.tree.leaves(posterior.weight_samples().trainable)
    ]
    mean = nuts.mean(axis=(0, 1))
    ours, theirs = (Moments.of(each, mean) for each in (np.concatenate(draws, axis=-1), nuts))
    std = np.sqrt(np.diag(theirs.covariance.mean(axis=0)))
    _agree(ours.mean, theirs.mean, std, 0.08)
    _agree(ours.covariance, theirs.covariance, np.outer(std, std), 0.12)
