"""Attention and pooling over positions, as functions of arrays."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    num_heads: int,
    drop: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Softmax attention, ``softmax(q k^T / sqrt(D / H)) v`` for each head.

    Parameters
    ----------
    query, key, value : array
        Shape ``(B, T, D)``, of which each head takes its part of D.
    mask : array of bool or None
        Shape ``(B, T)``; positions where it is False have no weight, exactly.
    num_heads : int
        H, a divisor of D.
    drop : callable
        What the weights ``(B, H, T, T)`` go through: dropout.

    Returns
    -------
    array
        Shape ``(B, T, D)``. Softmax is taken in float32 or more.
    """
    shape = (*query.shape[:2], num_heads, query.shape[2] // num_heads)
    query, key, value = (part.reshape(shape) for part in (query, key, value))
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.asarray(shape[-1] ** 0.5, query.dtype)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if mask is not None:
        # Finite, so that a row without any token is no NaN.
        lowest = jnp.full_like(logits, np.finfo(logits.dtype).min)
        logits = jnp.where(mask[:, None, None, :], logits, lowest)
    weights = drop(jax.nn.softmax(logits, axis=-1).astype(value.dtype))
    attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return attended.reshape(*shape[:2], -1)


def pooled(x: jax.Array, mask: jax.Array | None, pool: str) -> jax.Array:
    """Features of a sequence from those of its tokens.

    Parameters
    ----------
    x : array
        Shape ``(B, T, D)``.
    mask : array of bool or None
        Shape ``(B, T)``, True for tokens that count.
    pool : str
        "mean" (of those that count; 0 where none does) and "first" (of those) give ``(B, D)``,
        "tokens" gives `x` itself.
    """
    if pool == "tokens":
        return x
    if pool == "first":
        if mask is None:
            return x[:, 0]
        first = jnp.argmax(mask, axis=1)[:, None, None]
        return jnp.take_along_axis(x, first, axis=1)[:, 0]
    if mask is None:
        return jnp.mean(x, axis=1)
    kept = jnp.where(mask[:, :, None], x, jnp.zeros_like(x))
    count = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(x.dtype)
    return jnp.sum(kept, axis=1) / count[:, None]
