"""The networks that ours and the JAX baselines share, and their output curvature in plain JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.benchmark.cases import NOISE_STD

Tree = Any


def head_apply(params: Tree, inputs: jax.Array) -> jax.Array:
    """A last layer on given features: ``(B, D) -> (B, C)``."""
    outputs: jax.Array = inputs @ params["kernel"] + params["bias"]
    return outputs


def network_apply(params: Tree, inputs: jax.Array) -> jax.Array:
    """A perceptron with one hidden layer: ``(B, D) -> (B, C)``."""
    hidden = jnp.tanh(inputs @ params["kernel_1"] + params["bias_1"])
    outputs: jax.Array = hidden @ params["kernel_2"] + params["bias_2"]
    return outputs


def wait(values: Tree) -> Tree:
    """The same values once they are computed: JAX returns before its work is done."""
    ready: Any = jax.block_until_ready
    return ready(values)


def output_curvature(kind: str, outputs: jax.Array) -> jax.Array:
    """Lambda of every point: ``(B, C) -> (B, C, C)``."""
    if kind == "gaussian":
        eye = jnp.eye(outputs.shape[1], dtype=outputs.dtype) / NOISE_STD**2
        return jnp.broadcast_to(eye, (*outputs.shape, outputs.shape[1]))
    if kind == "bernoulli":
        p = jax.nn.sigmoid(outputs)
        return (p * (1 - p))[:, :, None]
    p = jax.nn.softmax(outputs)
    return jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]


def softmax_root(outputs: jax.Array) -> jax.Array:
    """A root of the softmax's Lambda, ``diag(sqrt p) - p sqrt(p)^T``: ``(B, C) -> (B, C, C)``."""
    p = jax.nn.softmax(outputs)
    s = jnp.sqrt(p)
    return jax.vmap(jnp.diag)(s) - p[:, :, None] * s[:, None, :]
