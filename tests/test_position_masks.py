"""Positions that do not count: masks, and a label for what is ignored."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_problems import (
    COUNTED,
    HEAD_OR_ALL,
    LABELS,
    PARAMS,
    TARGETS,
    N,
    T,
    X,
    assert_near,
    fit,
    head_only,
    in_small_pieces,
    rows,
    token_net,
)

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import DataError, ShapeError


def masked(y, way):
    """Targets of which some do not count, as a user would say it; the options with them."""
    if way == "label":
        return np.where(COUNTED, y, -100), {"ignored_label": -100}
    if way == "class":  # 0 stands for padding and is a class, too
        return np.where(COUNTED, y, 0), {"ignored_label": 0}
    # What does not count may hold anything.
    y = np.where(COUNTED.reshape(N, T, *(1 for _ in y.shape[2:])), y, 10**6).astype(y.dtype)
    return (y, COUNTED), {}


@pytest.mark.parametrize(
    ("likelihood", "way"),
    [("categorical", "label"), ("categorical", "class"), *((name, "mask") for name in TARGETS)],
)
@pytest.mark.parametrize("structure", ["full", "diag"])
@HEAD_OR_ALL
def test_what_is_masked_is_not_there(likelihood, way, structure, trainable, monkeypatch):
    in_small_pieces(monkeypatch)
    y, options = masked(TARGETS[likelihood], way)
    kept = COUNTED
    if way == "class":
        kept = COUNTED & (LABELS != 0)
    options |= {"hessian_structure": structure, "trainable": trainable}
    tokens = fit(X, y, likelihood, **options)
    options.pop("ignored_label", None)
    points = fit(X[kept], TARGETS[likelihood][kept], likelihood, **options)
    assert tokens.num_data == points.num_data == kept.sum()
    assert_near(tokens.precision(), points.precision())
    assert_near(tokens.log_likelihood, points.log_likelihood)
    assert_near(tokens.log_marginal_likelihood(), points.log_marginal_likelihood())
    # Predictions are for all positions.
    assert_near(tokens.functional_variance(X)[kept], points.functional_variance(X[kept]))
    density = points.log_prob([(X[kept], TARGETS[likelihood][kept])])
    assert density.shape == (kept.sum(),)
    for link in (None, "nn"):
        density = points.log_prob([(X[kept], TARGETS[likelihood][kept])], link)
        got = tokens.log_prob(DataLoader.from_array_data((X, y), batch_size=3), link)
        np.testing.assert_allclose(got, density, rtol=1e-3, atol=1e-3)


def test_points_without_positions_may_be_masked_too():
    y = np.where(COUNTED, LABELS, -100).reshape(-1)
    kept = COUNTED.reshape(-1)
    points = fit(rows(X)[kept], y[kept])
    for got in (
        fit(rows(X), y, ignored_label=-100),
        fit(rows(X), (y, kept)),
        fit(rows(X), (y.astype(np.float32), kept), ignored_label=np.int8(-100)),
    ):
        assert got.num_data == kept.sum()
        assert_near(got.precision(), points.precision())
        assert got.log_prob([(rows(X), (y, kept))]).shape == (kept.sum(),)


def test_masks_come_from_any_loader():
    y = np.where(COUNTED, LABELS, -7)
    expected = fit(X, (y, COUNTED)).precision()
    batches = [(X[i : i + 2], (y[i : i + 2], COUNTED[i : i + 2])) for i in range(0, N, 2)]
    as_jax = jax.tree.map(jnp.asarray, batches)
    loaders = (batches, as_jax, DataLoader.from_iterable(batches))
    shuffled = DataLoader.from_array_data((X, (y, COUNTED)), batch_size=2, shuffle=True)
    for loader in (*loaders, shuffled):
        for trainable in (head_only, "last_layer"):
            posterior = hoarfrost.fit_laplace(
                token_net, PARAMS, loader, trainable=trainable, progress=False
            )
            assert_near(posterior.precision(), expected)


@pytest.mark.filterwarnings("ignore:the prior precision that predicts:UserWarning")
@HEAD_OR_ALL
@pytest.mark.parametrize("way", ["all", "label", "mask"])
def test_batches_of_other_lengths_are_as_many_points(trainable, way):
    longer = np.concatenate([X, X[:, ::-1]], axis=1)
    parts = [(X[:3], LABELS[:3], COUNTED[:3])]
    parts.append((longer[3:5], np.tile(LABELS[3:5], 2), np.tile(COUNTED[3:5], 2)))
    parts.append((X[5:, :2], LABELS[5:, :2], COUNTED[5:, :2]))
    parts.append((X[:3], LABELS[:3], ~COUNTED[:3]))
    batches, options = [], {}
    for x, y, counted in parts:
        if way == "label":
            options, y = {"ignored_label": -100}, np.where(counted, y, -100)
        batches.append((x, (y, counted) if way == "mask" else y))
    kept = [np.ones_like(c) if way == "all" else c for _, _, c in parts]
    flat = [
        np.concatenate([part[i][c] for part, c in zip(parts, kept, strict=True)]) for i in (0, 1)
    ]
    tokens = hoarfrost.fit_laplace(
        token_net, PARAMS, batches, trainable=trainable, progress=False, **options
    )
    points = fit(*flat, trainable=trainable)
    assert tokens.num_data == points.num_data == sum(c.sum() for c in kept)
    assert_near(tokens.precision(), points.precision())
    assert_near(tokens.log_marginal_likelihood(), points.log_marginal_likelihood())
    for link in ("probit", "mc"):
        got, expected = tokens.log_prob(batches, link), points.log_prob([flat], link)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    tokens.optimize_on(batches, grid_size=2)
    with pytest.raises(DataError, match="all batches need the same"):
        tokens.predict([x for x, _ in batches])
    with pytest.raises(ShapeError, match="outputs have shape"):
        tokens.log_prob(batches, "nn")


def test_batches_of_points_still_have_one_shape():
    with pytest.raises(DataError, match=r"batch 1 of data_loader.*all batches need the same"):
        hoarfrost.fit_laplace(
            lambda p, x: x.sum(axis=1) @ p["w"],
            {"w": jnp.ones((4, 2))},
            [(X, LABELS[:, 0] % 2), (X[:, :2], LABELS[:, 0] % 2)],
            progress=False,
        )
