"""Effective sample sizes and Stein discrepancies against known values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.methods import effective_sample_size, kernel_stein_discrepancy_imq


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_size_of_an_autoregression(rho: float) -> None:
    """``S (1 - rho) / (1 + rho)``; 40 chains, so that the mean is known to a few percent."""
    rng = np.random.default_rng(0)
    size, chains = 4000, 40
    x = np.empty((size, chains))
    x[0] = rng.normal(size=chains) / np.sqrt(1 - rho**2)
    for step in range(1, size):
        x[step] = rho * x[step - 1] + rng.normal(size=chains)
    found = effective_sample_size({"w": x.reshape(size, 5, 8)})["w"]
    assert found.shape == (5, 8) and found.dtype == np.float64
    np.testing.assert_allclose(found.mean(), size * (1 - rho) / (1 + rho), rtol=0.06)


def test_effective_size_by_the_sum_itself() -> None:
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(size=30))
    centred = x - x.mean()
    lags = [centred[: 30 - k] @ centred[k:] / (30 - k) for k in range(30)]
    rho = np.array(lags[1:]) / lags[0]
    weights = 1 - np.arange(1, 30) / 30
    stop = int(np.argmax(rho < 0.1))
    for threshold, kept in ((0.1, stop), (None, 29)):
        expected = 30 / max(1 + 2 * np.sum((weights * rho)[:kept]), 1 / 30)
        found = effective_sample_size([{"a": jnp.float32(0) + v} for v in x], threshold)["a"]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert effective_sample_size(np.ones((5, 2))).tolist() == [1, 1]


def test_discrepancy_is_the_double_loop() -> None:
    rng = np.random.default_rng(2)
    trees = [{"a": rng.normal(size=2), "b": rng.normal(size=(1, 2))} for _ in range(7)]
    grads = [jax.tree.map(lambda leaf: -2 * leaf + 1, tree) for tree in trees]
    x = np.array([np.concatenate([t["a"], t["b"][0]]) for t in trees])
    score, c, beta = -2 * x + 1, 1.5, -0.3

    def kernel(a: jax.Array, b: jax.Array) -> jax.Array:
        return (c**2 + jnp.sum((a - b) ** 2)) ** beta

    total = 0.0
    with jax.enable_x64(True):
        across = jax.jacobian(jax.grad(kernel), argnums=1)
        for one, s in zip(x, score, strict=True):
            for other, t in zip(x, score, strict=True):
                da, db = jax.grad(kernel, (0, 1))(one, other)
                mixed = jnp.trace(across(one, other))
                total += float(mixed + s @ db + t @ da + kernel(one, other) * (s @ t))
    found = kernel_stein_discrepancy_imq(trees, grads, c=c, beta=beta)
    np.testing.assert_allclose(found, np.sqrt(total) / 7, rtol=1e-10)


def test_discrepancy_tells_the_density_from_another() -> None:
    rng = np.random.default_rng(3)
    exact = [
        kernel_stein_discrepancy_imq(x, -x) for x in (rng.normal(size=(n, 3)) for n in (100, 1600))
    ]
    # As one over the root of the number of samples.
    assert 2.5 < exact[0] / exact[1] < 6.5
    shifted = rng.normal(size=(1600, 3)) + 0.5
    assert kernel_stein_discrepancy_imq(shifted, -shifted) > 5 * exact[1]


def test_what_cannot_be_used_is_said() -> None:
    x = np.ones((4, 2))
    with pytest.raises(InvalidArgumentError, match="at least two"):
        effective_sample_size([{"a": 1.0}])
    with pytest.raises(ShapeError, match="leading axis"):
        effective_sample_size({"a": np.ones((4, 2)), "b": np.ones((5, 2))})
    with pytest.raises(NonFiniteError, match="samples"):
        effective_sample_size(np.array([[1.0], [np.nan]]))
    with pytest.raises(ShapeError, match=r"samples\[1\]"):
        effective_sample_size([{"a": np.ones(2)}, {"a": np.ones(3)}])
    with pytest.raises(InvalidArgumentError, match="filter_threshold"):
        effective_sample_size(x, "none")
    with pytest.raises(ShapeError, match="gradient"):
        kernel_stein_discrepancy_imq(x, np.ones((4, 3)))
    with pytest.raises(InvalidArgumentError, match="beta"):
        kernel_stein_discrepancy_imq(x, x, beta=0.5)
    with pytest.raises(InvalidArgumentError, match="c must be"):
        kernel_stein_discrepancy_imq(x, x, c=0.0)
