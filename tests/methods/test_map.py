"""The maximum a posteriori: against another optimiser, in every form of a network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from same_network import KINDS, WIDTH, arrays, function, network, outputs_of, plain
from scipy.optimize import minimize
from scipy.special import log_softmax

from hoarfrost.data import DataLoader
from hoarfrost.errors import (
    HoarfrostError,
    InvalidArgumentError,
    NonFiniteError,
    SelectionError,
    ShapeError,
)
from hoarfrost.methods import WeightPosterior, fit_map

SIZE, CLASSES = 24, 3
RNG = np.random.default_rng(4)
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, SIZE)
PARAMS = arrays(CLASSES)
STILL, ADAM = optax.sgd(0.0), optax.adam(1e-2)
# Before rounding alone tells one path of training from another.
ATOL = 2e-5


def _loader(batch_size: int | None = None) -> DataLoader:
    return DataLoader.from_array_data((X, Y), batch_size=batch_size)


def _fit(kind: str = "function", **options: Any) -> WeightPosterior:
    model, params = network(kind, PARAMS)
    loader = options.pop("loader", None) or _loader()
    return fit_map(model, params, loader, **{"progress": False, **options})


def _log_joint(params: Any, prior: Any, mean: Any, rows: Any = slice(None)) -> float:
    """Of trees in float64, with a Gaussian prior, its constants included."""
    found = log_softmax(outputs_of(params, X[rows]), axis=-1)
    total = found[np.arange(len(Y[rows])), Y[rows]].sum() * SIZE / len(Y[rows])
    parts = jax.tree.map(
        lambda w, p, m: np.sum(np.log(p / (2 * np.pi)) - p * (w - m) ** 2 + 0 * w) / 2,
        params,
        prior,
        mean,
    )
    return float(total + sum(jax.tree.leaves(parts)))


def test_it_is_the_maximum_that_another_optimiser_finds() -> None:
    """Over the head, whose density is concave, with a prior of its own for each number."""
    head = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS["head"])
    mean = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), head)
    precision = jax.tree.map(lambda leaf: np.exp(0.5 * leaf[::-1]), mean)
    posterior = _fit(
        optimizer=optax.lbfgs(),
        n_epochs=60,
        trainable=lambda path, value: "head" in path,
        prior_precision={"head": precision},
        prior_mean={"head": mean},
    )

    def loss(vector: np.ndarray) -> float:
        bias, kernel = vector[:CLASSES], vector[CLASSES:].reshape(-1, CLASSES)
        own = {"bias": bias, "kernel": kernel}
        one = outputs_of({**PARAMS, "head": own}, X)
        fit = log_softmax(one, axis=-1)[np.arange(SIZE), Y].sum()
        parts = jax.tree.map(lambda w, p, m: np.sum(p * (w - m) ** 2) / 2, own, precision, mean)
        return float(sum(jax.tree.leaves(parts)) - fit)

    start = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(head)])
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7}).x
    found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(posterior.mean)])
    np.testing.assert_allclose(found, best, rtol=0, atol=2e-4)
    merged = posterior.merge()
    for one, other in zip(
        jax.tree.leaves(merged["body"]), jax.tree.leaves(PARAMS["body"]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch_size", [None, 8])
def test_the_loss_is_the_negative_log_joint_density_of_all_data(batch_size: int | None) -> None:
    posterior = _fit(
        loader=_loader(batch_size), optimizer=STILL, n_epochs=2, prior_precision=1.5, prior_mean=0.2
    )
    like = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
    prior, mean = (
        jax.tree.map(lambda _, value=value: value, like) for value in (1.5, np.float32(0.2))
    )
    # Batches of one size, each scaled to all data: their mean is the whole.
    expected = -_log_joint(like, prior, mean)
    np.testing.assert_allclose(posterior.status["loss"], expected, rtol=1e-5)


def test_linen_nnx_and_a_function_give_the_same_numbers() -> None:
    found = [_fit(kind, loader=_loader(8), optimizer=ADAM, n_epochs=5) for kind in KINDS]
    for other in found[1:]:
        np.testing.assert_allclose(other.status["loss"], found[0].status["loss"], rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=ATOL),
            plain(other.mean),
            plain(found[0].mean),
        )


def test_the_frozen_part_may_run_once_or_at_each_step() -> None:
    once, each = (
        _fit(
            loader=_loader(8),
            optimizer=ADAM,
            n_epochs=5,
            trainable=lambda path, value: "head" in path,
            cache_features=cache,
        )
        for cache in (True, False)
    )
    assert once.status["features"].startswith("cached")
    assert each.status["features"].startswith("not cached")
    for one, other in zip(jax.tree.leaves(once.mean), jax.tree.leaves(each.mean), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ATOL)


def test_same_seed_same_bits_and_another_seed_another_order() -> None:
    once, again, other = (
        _fit(loader=_loader(8), optimizer=ADAM, n_epochs=2, seed=seed) for seed in (5, 5, 6)
    )
    leaves = [jax.tree.leaves(one.mean) for one in (once, again, other)]
    assert all(map(np.array_equal, leaves[0], leaves[1]))
    assert not any(map(np.array_equal, leaves[0], leaves[2]))


def test_what_does_not_count_is_as_if_it_were_not_there() -> None:
    counts = np.arange(SIZE) % 4 != 0
    labels = np.where(counts, Y, -7)
    options: dict[str, Any] = {"optimizer": ADAM, "n_epochs": 5}
    alone = _fit(loader=DataLoader.from_array_data((X[counts], Y[counts])), **options)
    ignored = _fit(loader=DataLoader.from_array_data((X, labels)), ignored_label=-7, **options)
    masked = _fit(loader=DataLoader.from_array_data((X, (Y, counts))), **options)
    for one in (ignored, masked):
        assert one.num_data == counts.sum()
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=ATOL), one.mean, alone.mean
        )


def test_dropout_is_drawn_in_training_and_not_in_predictions() -> None:
    from flax import linen as nn

    class Dropped(nn.Module):  # type: ignore[misc]
        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            return nn.Dense(CLASSES)(nn.Dropout(0.5, deterministic=not train)(x))

    model = Dropped()
    params = model.init(jax.random.key(0), X[:1])
    first, second = (
        fit_map(model, params, _loader(), optimizer=STILL, n_epochs=3, seed=seed, progress=False)
        for seed in (0, 1)
    )
    # Each step and each seed drops others.
    assert len({*first.status["loss"], *second.status["loss"]}) == 6
    expected = jax.nn.softmax(model.apply(params, X))
    np.testing.assert_allclose(first.predict(X), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n_epochs": 0}, InvalidArgumentError, r"n_epochs.* 0"),
        ({"n_epochs": 1.5}, InvalidArgumentError, r"n_epochs.* 1\.5"),
        ({"optimizer": "adam"}, InvalidArgumentError, r"optimizer.*'adam'.*optax"),
        ({"seed": -1}, InvalidArgumentError, "seed is -1; give a key"),
        ({"progress": "no"}, InvalidArgumentError, "progress must be True or False, but it is .no"),
        ({"cache_features": "yes"}, InvalidArgumentError, "cache_features is 'yes'; give True"),
        ({"cache_features": True}, InvalidArgumentError, "cache_features is True, but nothing is"),
        ({"prior_precision": -1.0}, InvalidArgumentError, r"prior_precision.*-1"),
        ({"prior_precision": {"head": 1.0}}, HoarfrostError, "prior_precision"),
        ({"prior_mean": np.nan}, HoarfrostError, "prior_mean"),
        ({"prior_mean": {"w": 1.0}}, HoarfrostError, "prior_mean"),
        ({"trainable": lambda path, value: False}, SelectionError, "trainable|no parameter"),
        ({"trainable": "first_layer"}, HoarfrostError, "first_layer"),
        ({"likelihood": "normal"}, InvalidArgumentError, "'normal'"),
        ({"likelihood": "gaussian"}, HoarfrostError, "gaussian|noise_std|targets"),
        ({"ignored_label": 0.5}, InvalidArgumentError, r"ignored_label is 0\.5; give"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        _fit(**{"n_epochs": 1, "optimizer": ADAM, **options})


def test_training_that_diverges_says_at_which_step_and_what_helps() -> None:
    with pytest.raises(NonFiniteError, match=r"at step \d+; try a smaller learning rate"):
        _fit(optimizer=optax.sgd(1e30), n_epochs=20)


def test_data_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ShapeError, match=r"labels|targets"):
        _fit(loader=DataLoader.from_array_data((X, np.stack([Y, Y], axis=1))))
    with pytest.raises(HoarfrostError, match="3"):
        _fit(loader=DataLoader.from_array_data((X, Y + 1)))
    holes = X.copy()
    holes[3, 1] = np.nan
    with pytest.raises(NonFiniteError, match="inputs"):
        _fit(loader=DataLoader.from_array_data((holes, Y)), n_epochs=1)


def test_params_of_another_form_are_errors() -> None:
    with pytest.raises(HoarfrostError):
        fit_map(function, {}, _loader(), n_epochs=1, progress=False)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)
    with pytest.raises(NonFiniteError, match="param"):
        fit_map(function, broken, _loader(), n_epochs=1, progress=False)
