"""Positions that do not count: masks, and a label for what is ignored."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_problems import (
    AT_ONCE,
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
    rows,
    token_net,
)

import hoarfrost
from hoarfrost.data import DataLoader


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
    monkeypatch.setattr("hoarfrost.curvature.head.MAX_POINTS", AT_ONCE)
    monkeypatch.setattr("hoarfrost.laplace.linearised.MAX_POINTS", AT_ONCE)
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
