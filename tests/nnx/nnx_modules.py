"""NNX modules that the tests of this folder share, and what they hold bit for bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import config, nnx

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4)).astype(np.float32)
Y = np.arange(24) % 3
List = getattr(nnx, "List", list)  # before Flax 0.12 any list will do
TREE_MODE = not getattr(config, "nnx_graph_mode", True)


class Net(nnx.Module):
    """One hidden layer."""

    def __init__(self, rngs: nnx.Rngs, outputs: int = 3) -> None:
        self.hidden = nnx.Linear(4, 5, rngs=rngs)
        self.head = nnx.Linear(5, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(jnp.tanh(self.hidden(x)))


class Everything(nnx.Module):
    """Parameters, statistics, random state, a cache, plain arrays, a list and a dict."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = List([nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(5, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.calls = nnx.Cache(jnp.zeros((), jnp.int32))
        self.scale = jnp.full(5, 1.5)
        self.shift = np.full(5, 0.25, np.float32)
        self.settings = {"power": 1}

    def __call__(self, x: jax.Array) -> jax.Array:
        self.calls[...] += 1
        x = self.drop(self.norm(self.layers[0](x)))
        return self.layers[1](x * self.scale + self.shift) ** self.settings["power"]


def contents(module: nnx.Module) -> tuple[Any, list[tuple[Any, Any]], list[Any]]:
    """Everything in a module: its structure and modes, and each array as numbers."""
    graph, state = nnx.split(module)
    leaves = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))[0]
    modes = [
        (path, {name: getattr(m, name, None) for name in ("deterministic", "use_running_average")})
        for path, m in nnx.iter_graph(module)
        if isinstance(m, nnx.Module)
    ]
    return graph, [(path, numbers(leaf)) for path, leaf in leaves], modes


def numbers(leaf: Any) -> tuple[str, bytes]:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return f"{leaf.dtype}{leaf.shape}", np.asarray(leaf).tobytes()


def in_evaluation(module: nnx.Module) -> nnx.Module:
    """A copy in evaluation mode."""
    copy = nnx.clone(module)
    copy.eval()
    return copy
