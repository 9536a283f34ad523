"""What users give: streams, orders of a loader's own, masks, positions, dtypes.

The oracle is the same posterior from plain arrays, or plain NumPy over its draws.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from same_network import WIDTH, arrays, function, outputs_of
from scipy import special

from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import HoarfrostError
from hoarfrost.methods import (
    WeightPosterior,
    fit_advi,
    fit_ensemble,
    fit_ivon,
    fit_map,
    fit_sngp,
    fit_swag,
    sample_cyclical_sgld,
    sample_sghmc,
)

SIZE, BATCH, CLASSES = 16, 8, 3
RNG = np.random.default_rng(31)
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, SIZE)
PARAMS = arrays(CLASSES)
ADAM = optax.adam(1e-2)
# Adam turns rounding into steps: what other orders of a sum may change in a few of them.
ATOL = 5e-5

METHODS: dict[str, Callable[..., WeightPosterior]] = {
    "map": functools.partial(fit_map, optimizer=ADAM, n_epochs=2),
    "swag": functools.partial(fit_swag, optimizer=ADAM, n_epochs=3, rank=2),
    "advi": functools.partial(fit_advi, optimizer=ADAM, n_epochs=2),
    "ivon": functools.partial(fit_ivon, n_epochs=2),
    "ensemble": functools.partial(
        fit_ensemble, optimizer=ADAM, n_epochs=2, ensemble_size=2, init="given"
    ),
    "sghmc": functools.partial(
        sample_sghmc, n_samples=2, burnin_length=4, step_schedule=1e-3, num_chains=2
    ),
    "cyclical sgld": functools.partial(
        sample_cyclical_sgld, n_samples=3, cycle_length=4, num_cycles=2, init_step_size=1e-3
    ),
    "sngp": functools.partial(
        fit_sngp, optimizer=ADAM, n_epochs=2, gp_hidden_features=6, output_dim=CLASSES
    ),
}


def _fit(method: str, loader: Any, params: Any = PARAMS, **options: Any) -> WeightPosterior:
    model = options.pop("model", function)
    return METHODS[method](model, params, loader, progress=False, **options)


def _plain(batch_size: int | None = None) -> DataLoader:
    return DataLoader.from_array_data((X, Y), batch_size=batch_size)


@functools.cache
def _known(method: str) -> WeightPosterior:
    """Of plain arrays, all in a batch."""
    return _fit(method, _plain())


def _agree(one: WeightPosterior, other: WeightPosterior, atol: float = ATOL) -> None:
    for a, b in zip(*map(jax.tree.leaves, (one.mean, other.mean)), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), atol=atol)
    assert one.num_data == other.num_data


# --- loaders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ivon", "cyclical sgld", "sngp"])
def test_a_stream_in_one_batch_gives_what_arrays_give(method: str) -> None:
    """The sum over the points alone is in another order."""
    stream = DataLoader.from_callable_iterable(lambda: iter([(X, Y)]))
    found = _fit(method, stream)
    assert (
        "not made from arrays" in found.status["features"]
        or "nothing is frozen" in (found.status["features"])
    )
    _agree(found, _known(method))


@pytest.mark.parametrize("method", ["map", "sghmc"])
def test_a_list_of_batches_is_a_stream(method: str) -> None:
    batches = [(X[:BATCH], Y[:BATCH]), (X[BATCH:], Y[BATCH:])]
    listed, called = (
        _fit(method, loader)
        for loader in (batches, DataLoader.from_callable_iterable(lambda: iter(batches)))
    )
    _agree(listed, called, atol=0)


@pytest.mark.parametrize("method", ["map"])
def test_a_shuffling_loader_is_repeatable_and_sees_every_point(method: str) -> None:
    def loader() -> DataLoader:
        return DataLoader.from_array_data((X, Y), batch_size=5, shuffle=True)

    once, again = (_fit(method, loader()) for _ in range(2))
    _agree(once, again, atol=0)
    # Of predictions the order is that of the data, not of a loader that shuffles in training.
    expected = once.log_prob(_plain(), 3)
    np.testing.assert_array_equal(expected, again.log_prob(_plain(), 3))


def test_log_densities_do_not_depend_on_how_the_data_come() -> None:
    posterior = _known("swag")
    expected = posterior.log_prob(_plain(), 5)
    stream = DataLoader.from_callable_iterable(lambda: iter([(X[:3], Y[:3]), (X[3:], Y[3:])]))
    for loader in (_plain(5), [(X[:7], Y[:7]), (X[7:], Y[7:])], stream):
        np.testing.assert_allclose(posterior.log_prob(loader, 5), expected, rtol=1e-5, atol=1e-6)
    whole = posterior.predict(X, 5)
    np.testing.assert_allclose(
        posterior.predict(InputsLoader.from_array_inputs(X, batch_size=3), 5), whole, atol=1e-6
    )


# --- masks and positions -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["swag", "ensemble", "sghmc", "sngp"])
def test_what_does_not_count_is_as_if_it_were_not_there(method: str) -> None:
    counts = np.arange(2 * SIZE) % 2 == 0
    x, y = np.repeat(X, 2, axis=0), np.repeat(Y, 2)
    x[~counts] += 7
    masked = _fit(method, DataLoader.from_array_data((x, (y, counts))))
    ignored = _fit(
        method, DataLoader.from_array_data((x, np.where(counts, y, -100))), ignored_label=-100
    )
    for found in (masked, ignored):
        _agree(found, _known(method))
    log_prob = masked.log_prob(DataLoader.from_array_data((x, (y, counts))), 4)
    np.testing.assert_allclose(log_prob, masked.log_prob(_plain(), 4), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["swag", "advi", "ivon"])
def test_positions_are_points(method: str) -> None:
    """Sequences of two: the same network at each, so the same posterior as of single points."""
    x, y = X.reshape(-1, 2, WIDTH), Y.reshape(-1, 2)
    found = _fit(method, DataLoader.from_array_data((x, y)))
    _agree(found, _known(method))
    predicted = found.predict(x, 4)
    assert predicted.shape == (SIZE // 2, 2, CLASSES)
    np.testing.assert_allclose(predicted.reshape(-1, CLASSES), found.predict(X, 4), atol=1e-6)
    covariance = found.functional_covariance(x, 4)
    assert covariance.shape == (SIZE // 2, 2, CLASSES, CLASSES)
    log_prob = found.log_prob(DataLoader.from_array_data((x, y)), 4)
    assert log_prob.shape == (SIZE // 2, 2)
    np.testing.assert_allclose(log_prob.ravel(), found.log_prob(_plain(), 4), rtol=1e-5, atol=1e-6)


# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["swag", "sghmc"])
def test_big_endian_and_wide_numbers_are_the_same_numbers(method: str) -> None:
    loader = DataLoader.from_array_data((X.astype(">f4"), Y.astype(">i8")))
    found = _fit(method, loader)
    _agree(found, _known(method), atol=0)
    np.testing.assert_array_equal(found.predict(X.astype(">f4"), 3), found.predict(X, 3))
    np.testing.assert_array_equal(found.log_prob(loader, 3), found.log_prob(_plain(), 3))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        *((name, jnp.bfloat16) for name in ("swag", "advi", "sghmc", "sngp")),
        *((name, jnp.float16) for name in ("ivon", "cyclical sgld")),
    ],
)
def test_half_precision_stays_and_predictions_are_those_of_its_draws(
    method: str, dtype: Any
) -> None:
    params = arrays(CLASSES, dtype=dtype)
    x = X.astype(dtype)
    found = _fit(method, DataLoader.from_array_data((x, Y)), params)
    draws = found.sample(0, 3)
    if method == "sngp":
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found.merge()["model"]))
    else:
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(draws))
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found.merge()))
    assert np.isfinite(found.status["loss"]).all()
    predicted = found.predict(x, 3)
    np.testing.assert_allclose(predicted.sum(axis=1), 1, atol=1e-3)
    eps = float(jnp.finfo(dtype).eps)
    if method != "sngp":
        wide = jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64), found.weight_samples(3).trainable
        )
        expected = special.softmax(outputs_of(wide, np.asarray(x, np.float64)), axis=-1)
        np.testing.assert_allclose(predicted, expected.mean(axis=0), atol=8 * eps)
    # Near what float32 comes to, by the steps that the coarse numbers can take.
    known = _known(method).predict(X, 3)
    np.testing.assert_allclose(predicted, known, atol=0.15)


@pytest.mark.parametrize("method", ["map", "sghmc"])
def test_float64_is_kept_where_jax_has_it(method: str, x64: None) -> None:
    params = arrays(CLASSES, dtype=np.float64)
    found = _fit(method, DataLoader.from_array_data((X.astype(np.float64), Y)), params)
    draws = found.weight_samples(3, seed=1).trainable
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(draws))
    expected = special.softmax(outputs_of(draws, X.astype(np.float64)), axis=-1).mean(axis=0)
    np.testing.assert_allclose(found.predict(X.astype(np.float64), 3, seed=1), expected, rtol=1e-12)


# --- what cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (lambda: DataLoader.from_array_data((X, np.full(SIZE, -100))), "-100|count"),
        (lambda: DataLoader.from_array_data((X, (Y, np.zeros(SIZE, bool)))), "count"),
        (lambda: DataLoader.from_array_data((X * 1j, Y)), "complex|real"),
        (lambda: DataLoader.from_array_data((X, Y + 0.5)), "targets|labels"),
        (lambda: DataLoader.from_array_data((X[:, :2], Y)), "shape|inputs|model"),
        (lambda: DataLoader.from_callable_iterable(lambda: iter([])), "empty"),
        (lambda: iter([(X, Y)]), "data_loader"),
        (lambda: X, "data_loader"),
    ],
)
@pytest.mark.parametrize("method", ["map", "sghmc"])
def test_data_that_cannot_be_used_are_typed_errors(method: str, loader: Any, said: str) -> None:
    with pytest.raises(HoarfrostError, match=said):
        _fit(method, loader())
