"""Batches cut into pieces of one size: one program, whatever a loader gives."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import on_host
from hoarfrost.types import Tree


def piece_size(size: int, max_points: int) -> int:
    """Points of a piece when batches of `size` points are cut evenly into at most `max_points`."""
    pieces = -(-size // max_points)
    return -(-size // pieces)


def bucket_size(size: int, max_points: int) -> int:
    """`piece_size`, rounded up so that calls with many different sizes share a few programs.

    Up to 16 to a power of two; beyond, to four significant bits, which adds at most an eighth.
    """
    exact = piece_size(size, max_points)
    bits = (exact - 1).bit_length()
    step = 1 << (bits if exact <= 16 else bits - 4)
    return min(-(-exact // step) * step, max_points)


def cut(tree: Tree, start: int, size: int, length: int) -> Tree:
    """Rows `start` to ``start + length`` of every leaf, padded to `size` by repeating the last.

    A repeated point is one that the network can take, which zeros need not be.
    """

    def one(leaf: Any) -> Any:
        if start == 0 and length == size == leaf.shape[0]:
            return leaf
        if not on_host(leaf):
            return _rows(leaf, start, length, size)
        rows = np.asarray(leaf)[start : start + length]
        if length == size:
            return rows
        return np.concatenate([rows, np.repeat(rows[-1:], size - length, axis=0)])

    return jax.tree.map(one, tree)


@functools.partial(jax.jit, static_argnames="size")
def _rows(leaf: jax.Array, start: int, length: int, size: int) -> jax.Array:
    """Rows of an array that stays on its devices; one program for any start and length."""
    return leaf[start + jnp.minimum(jnp.arange(size), length - 1)]


def padded(tree: Tree, size: int, to: int) -> Tree:
    """A tree of `size` rows with `to` of them, the last one repeated as padding."""
    return cut(tree, 0, to, size)
