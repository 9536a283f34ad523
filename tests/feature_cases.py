"""Networks with a last layer, data for them, and how often their frozen part runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hoarfrost.data import DataLoader

RNG = np.random.default_rng(0)
N, D, H, C = 53, 4, 6, 3
X = RNG.standard_normal((N, D)).astype(np.float32)
Y = RNG.integers(0, C, N)
X_NEW = RNG.standard_normal((17, D)).astype(np.float32)
Y_NEW = RNG.integers(0, C, 17)
EPS = float(np.finfo(np.float32).eps)


class Net(nn.Module):
    """A hidden layer, which may have dropout or a BatchNorm after it."""

    dropout: float = 0.0
    norm: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = jnp.tanh(nn.Dense(H, name="hidden")(x))
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(C, name="head")(x)


def variables(net=None, seed=0):
    made = (Net() if net is None else net).init(jax.random.key(seed), X)
    # Statistics and biases that are not those of a new network.
    return jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(0.1), made)


def loader(x=X, y=Y, batch_size=16, **options):
    return DataLoader.from_array_data((x, y), batch_size=batch_size, **options)


class Counted:
    """A function network that counts the examples that went through its frozen part."""

    def __init__(self):
        self.points = 0
        self.params = {
            "body": RNG.standard_normal((D, H)).astype(np.float32),
            "bias": RNG.standard_normal(C).astype(np.float32),
            "kernel": RNG.standard_normal((H, C)).astype(np.float32),
        }

        def count(x):
            self.points += len(np.atleast_2d(x))
            return np.float32(0)

        def apply(params, x):
            zero = jax.pure_callback(
                count, jax.ShapeDtypeStruct((), np.float32), x, vmap_method="sequential"
            )
            hidden = jnp.tanh(x @ params["body"]) + jax.lax.stop_gradient(zero)
            return hidden @ params["kernel"] + params["bias"]

        self.apply = apply


def near(got, expected, factor=64.0):
    """Equal to the rounding of sums in single precision."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=factor * EPS * scale)
