"""Draws as arrays and one pure function: the same predictions, jitted and exported."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from linear_gaussian import apply, problem

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods import (
    WeightPosterior,
    fit_advi,
    fit_ensemble,
    fit_map,
    fit_sngp,
    fit_swag,
    sample_sghmc,
)

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 5)).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
_ADAM = optax.adam(1e-2)
LOADER = DataLoader.from_array_data((X, LABELS), batch_size=20)


class _Net(nn.Module):
    normed: bool = False
    outputs: int = 3

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Dense(4)(x)
        if self.normed:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(self.outputs, name="head")(nn.tanh(x))


class _NNX(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(5, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.dropout(nnx.tanh(self.hidden(x))))


def _net(**options: Any) -> tuple[Any, Any]:
    model = _Net(**options)
    return model, model.init(jax.random.key(0), X[:1])


def _classes(method: Any, model: Any, params: Any, **options: Any) -> WeightPosterior:
    posterior: WeightPosterior = method(
        model, params, LOADER, optimizer=_ADAM, progress=False, **{"n_epochs": 2, **options}
    )
    return posterior


FITS = {
    "swag": lambda: _classes(fit_swag, *_net(), rank=2, n_epochs=4),
    "advi of a head": lambda: _classes(fit_advi, *_net(), trainable="last_layer"),
    "ensemble with statistics": lambda: _classes(fit_ensemble, *_net(normed=True), ensemble_size=3),
    "map": lambda: _classes(fit_map, *_net()),
    "nnx": lambda: _classes(fit_swag, _NNX(nnx.Rngs(0)), None, rank=2, n_epochs=3),
    "sngp": lambda: _classes(fit_sngp, *_net(outputs=4), output_dim=3, gp_hidden_features=16),
}


@pytest.mark.parametrize("kind", FITS)
def test_it_gives_what_predict_gives(kind: str) -> None:
    posterior = FITS[kind]()
    count = None if posterior.distribution.listed is not None else 7
    arrays, served = posterior.to_jax(count, seed=4)
    found = jax.jit(served)(arrays, posterior.merge(), X[:6])
    assert found.shape == (6, 3)
    np.testing.assert_allclose(found, posterior.predict(X[:6], count, seed=4), rtol=2e-5, atol=1e-6)
    assert served.nbytes == sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))


def test_numbers_have_their_mean_and_both_variances() -> None:
    exact = problem()
    posterior = sample_sghmc(
        apply,
        exact.params,
        exact.loader(),
        n_samples=30,
        burnin_length=10,
        step_schedule=1e-3,
        **exact.options,
    )
    arrays, served = posterior.to_jax()
    found = jax.jit(served)(arrays, posterior.merge(), exact.x[:8])
    known = posterior.predict_regression(exact.x[:8])
    for ours, theirs in zip(
        found, (known.mean, known.epistemic_variance, known.noise_variance), strict=True
    ):
        assert ours.shape == (8, 1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_one_program_for_any_number_of_points_after_export() -> None:
    posterior = FITS["ensemble with statistics"]()
    arrays, served = posterior.to_jax()
    params = posterior.merge()
    (batch,) = jax.export.symbolic_shape("b")
    points = jax.ShapeDtypeStruct((batch, 5), X.dtype)
    program = jax.export.export(jax.jit(served))(arrays, params, points)
    for count in (1, 6):
        found = program.call(arrays, params, X[:count])
        expected = posterior.predict(X[:count])
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_the_frozen_part_and_the_draws_are_arguments() -> None:
    posterior = FITS["advi of a head"]()
    arrays, served = posterior.to_jax(5)
    params = posterior.merge()
    # Read from the arguments: other hidden weights and other draws give other numbers.
    run = jax.jit(served)
    first = run(arrays, params, X[:6])
    other = jax.tree.map(lambda leaf: 2 * leaf, params["params"]["Dense_0"])
    moved = {"params": {**params["params"], "Dense_0": other}}
    assert np.abs(run(arrays, moved, X[:6]) - first).max() > 1e-3
    assert np.abs(run(jax.tree.map(jnp.zeros_like, arrays), params, X[:6]) - 1 / 3).max() < 1e-6
    assert run._cache_size() == 1


def test_positions_are_points() -> None:
    def tokens(params: Any, x: Any) -> Any:
        return jnp.tanh(x @ params["a"]) @ params["b"]

    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4, 3)).astype(np.float32)
    params = {"a": rng.normal(size=(3, 5)), "b": rng.normal(size=(5, 2))}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    posterior = fit_swag(
        tokens,
        params,
        DataLoader.from_array_data((x, rng.integers(0, 2, (12, 4)))),
        rank=2,
        n_epochs=4,
        progress=False,
    )
    arrays, served = posterior.to_jax(5, seed=1)
    found = served(arrays, posterior.merge(), x)
    assert found.shape == (12, 4, 2)
    np.testing.assert_allclose(found, posterior.predict(x, 5, seed=1), rtol=2e-5, atol=1e-6)


def test_the_number_of_draws_is_checked() -> None:
    posterior = FITS["map"]()
    assert "1 draws" in repr(posterior.to_jax()[1])
    with pytest.raises(InvalidArgumentError, match="n_samples"):
        posterior.to_jax(0)
