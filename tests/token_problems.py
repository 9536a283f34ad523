"""Tokens whose head is a shared layer, targets of every kind for them, and which count."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.curvature import head
from hoarfrost.data import DataLoader
from hoarfrost.laplace import linearise

EPS32 = float(np.finfo(np.float32).eps)

N, T, D, C = 7, 5, 4, 3


def token_net(params, x):
    """The same at every position."""
    return jnp.tanh(x @ params["body"]) @ params["head"]["w"] + params["head"]["b"]


def head_only(path, value):
    return "head" in path


RNG = np.random.default_rng(0)
PARAMS = {
    "body": RNG.standard_normal((D, 6)).astype(np.float32),
    "head": {
        "b": RNG.standard_normal(C).astype(np.float32),
        "w": RNG.standard_normal((6, C)).astype(np.float32),
    },
}
X = RNG.standard_normal((N, T, D)).astype(np.float32)
LABELS = RNG.integers(0, C, (N, T))
COUNTED = RNG.random((N, T)) < 0.6
COUNTED[2] = False  # an example of padding alone

TARGETS = {
    "categorical": LABELS,
    "bernoulli": RNG.integers(0, 2, (N, T, C)),
    "poisson": RNG.poisson(2.0, (N, T, C)),
    "gaussian": RNG.standard_normal((N, T, C)).astype(np.float32),
}
# A piece holds two of the seven examples, and the last one is padded.
AT_ONCE = 2 * T


def fit(x, y, likelihood="categorical", **options):
    options = {"trainable": head_only, "batch_size": 4, **options}
    loader = DataLoader.from_array_data((x, y), batch_size=options.pop("batch_size"))
    return hoarfrost.fit_laplace(
        token_net, PARAMS, loader, likelihood=likelihood, progress=False, **options
    )


def rows(array):
    return array.reshape(-1, *array.shape[2:])


def in_small_pieces(monkeypatch):
    """Pieces of two examples; the modules are imported above, with the constant as it is.

    One that were imported while it is another would keep that for all tests after this one.
    """
    for module in (head, linearise):
        monkeypatch.setattr(module, "MAX_POINTS", AT_ONCE)


def assert_near(got, expected):
    # Sums over 35 points, of single precision.
    slack = 64 * EPS32 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=64 * EPS32, atol=slack)


HEAD_OR_ALL = pytest.mark.parametrize("trainable", [head_only, None], ids=["head", "every leaf"])
