"""Posteriors by their draws in files: the same bits again, and errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from linear_gaussian import Exact, apply, problem

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.methods import WeightPosterior, fit_advi, fit_ensemble, fit_swag, sample_sghmc

FITS: dict[str, Callable[[Exact], WeightPosterior]] = {
    "listed": lambda exact: sample_sghmc(
        apply,
        exact.params,
        exact.loader(),
        n_samples=5,
        burnin_length=10,
        step_schedule=1e-4,
        **exact.options,
    ),
    "gaussian": lambda exact: fit_advi(
        apply, exact.params, exact.loader(), n_epochs=5, **exact.options
    ),
    "low rank": lambda exact: fit_swag(
        apply, exact.params, exact.loader(20), rank=3, n_epochs=6, **exact.options
    ),
}


@pytest.fixture(scope="module")
def exact() -> Exact:
    """A linear model."""
    return problem()


def _same(one: WeightPosterior, other: WeightPosterior, exact: Exact) -> None:
    for a, b in (
        (one.predict(exact.x), other.predict(exact.x)),
        (one.sample(3, 4), other.sample(3, 4)),
        (one.log_prob(exact.loader()), other.log_prob(exact.loader())),
        (one.merge(), other.merge()),
        (one.status["loss"], other.status["loss"]),
    ):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert (one.method, one.num_data, one.likelihood) == (
        other.method,
        other.num_data,
        other.likelihood,
    )
    assert other.status["features"] == one.status["features"]


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize("frozen", [True, False])
def test_a_posterior_comes_back_with_the_same_bits(
    exact: Exact, kind: str, frozen: bool, tmp_path: Path
) -> None:
    posterior = FITS[kind](exact)
    path = tmp_path / "posterior.safetensors"
    posterior.save(path, frozen=frozen)
    params = None if frozen else exact.params
    _same(posterior, hoarfrost.load_posterior(path, model=apply, params=params), exact)


class _Normed(nn.Module):  # type: ignore[misc]
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(4)(x))
        return nn.Dense(3)(nn.relu(x))


def test_members_keep_their_own_statistics(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    loader = DataLoader.from_array_data((x, rng.integers(0, 3, 40)), batch_size=10)
    params = _Normed().init(jax.random.PRNGKey(0), x[:1])
    posterior = fit_ensemble(
        _Normed(),
        params,
        loader,
        ensemble_size=3,
        n_epochs=2,
        optimizer=optax.adam(1e-2),
        progress=False,
    )
    own = posterior.distribution.listed.statistics
    assert len(own) == 2 and all(len(np.unique(leaf, axis=0)) == 3 for leaf in own)
    path = tmp_path / "members"
    posterior.save(path)
    again = hoarfrost.load_posterior(path, model=_Normed())
    np.testing.assert_array_equal(posterior.predict(x), again.predict(x))
    # Each member through the network by hand, with its own statistics.
    total = 0.0
    for member in range(3):
        trainable = jax.tree.map(
            lambda leaf, m=member: leaf[m], posterior.distribution.listed.trainable
        )
        stats = [leaf[member] for leaf in own]
        held = {
            **trainable,
            "batch_stats": jax.tree.unflatten(jax.tree.structure(params["batch_stats"]), stats),
        }
        total = total + jax.nn.softmax(_Normed().apply(held, x))
    np.testing.assert_allclose(posterior.predict(x), total / 3, atol=1e-6)


def test_wrong_files_models_and_parameters_are_errors(exact: Exact, tmp_path: Path) -> None:
    posterior = FITS["gaussian"](exact)
    path = tmp_path / "posterior"
    posterior.save(path, frozen=False)
    with pytest.raises(InvalidArgumentError, match="params is needed"):
        hoarfrost.load_posterior(path, model=apply)
    other = {**exact.params, "body": 2 * exact.params["body"]}
    with pytest.raises(SavedFileError, match="other frozen parameters"):
        hoarfrost.load_posterior(path, model=apply, params=other)

    def another(params: Any, x: Any) -> Any:
        return 3 * apply(params, x)

    with pytest.raises(SavedFileError, match="another model"):
        hoarfrost.load_posterior(path, model=another, params=exact.params)
    with pytest.raises(SavedFileError, match="weights file"):
        hoarfrost.load_laplace(path, model=apply)
    with pytest.raises(InvalidArgumentError, match="frozen must be True or False"):
        posterior.save(path, frozen="no")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(SavedFileError):
        hoarfrost.load_posterior(path, model=apply, params=exact.params)
    assert jnp.isfinite(posterior.predict(exact.x)[0]).all()
