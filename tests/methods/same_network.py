"""One small network as a Linen module, an NNX module and a function, with the same numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

WIDTH, HIDDEN = 3, 5
KINDS = ("linen", "nnx", "function")


class Linen(nn.Module):  # type: ignore[misc]
    """``tanh(x W1 + b1) W2 + b2``."""

    outputs: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(self.outputs, name="head")(jnp.tanh(nn.Dense(HIDDEN, name="body")(x)))


class Nnx(nnx.Module):
    """The same, made of parameters."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.body, self.head = (_layer(params[name]) for name in ("body", "head"))

    def __call__(self, x: Any) -> Any:
        return self.head(jnp.tanh(self.body(x)))


def function(params: Any, x: Any) -> Any:
    """The same."""
    hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def arrays(outputs: int, seed: int = 0, dtype: Any = np.float32) -> dict[str, Any]:
    """Parameters of the function."""
    rng = np.random.default_rng(seed)
    shapes = {"body": (WIDTH, HIDDEN), "head": (HIDDEN, outputs)}
    return {
        layer: {
            "bias": jnp.asarray(0.3 * rng.normal(size=shape[1]), dtype),
            "kernel": jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[0]), dtype),
        }
        for layer, shape in shapes.items()
    }


def network(kind: str, params: dict[str, Any]) -> tuple[Any, Any]:
    """Model and parameters, as a method takes them."""
    outputs = params["head"]["bias"].shape[0]
    if kind == "linen":
        return Linen(outputs), {"params": params}
    if kind == "function":
        return function, params
    return Nnx(params), None


def _layer(params: dict[str, Any]) -> nnx.Linear:
    kernel, bias = params["kernel"], params["bias"]
    return nnx.Linear(
        *kernel.shape,
        kernel_init=lambda *_: kernel,
        bias_init=lambda *_: bias,
        rngs=nnx.Rngs(0),
    )


def plain(tree: Any) -> dict[str, Any]:
    """A tree of parameters of any of the three as that of the function, in NumPy."""
    found: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
        layer, name = (name for name in names if name in ("body", "head", "bias", "kernel"))
        found.setdefault(layer, {})[name] = np.asarray(leaf)
    return found


def outputs_of(params: Any, x: Any) -> np.ndarray:
    """Outputs in float64; with a leading axis in every leaf, of each."""
    (b1, w1), (b2, w2) = (
        [np.asarray(params[layer][name], np.float64) for name in ("bias", "kernel")]
        for layer in ("body", "head")
    )
    hidden = np.tanh(np.asarray(x, np.float64) @ w1 + b1[..., None, :])
    return hidden @ w2 + b2[..., None, :]
