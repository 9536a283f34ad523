"""Floating-point types: what is widened before it is added up, and what is finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.types import Tree


def at_least_float32(values: jax.Array) -> jax.Array:
    """Half-precision values widened: a sum over them needs more than 8 or 11 bits."""
    return values.astype(jnp.float32) if values.dtype.itemsize < 4 else values


def wide_dtype(*arrays: Any) -> Any:
    """float64 where one of the arrays is, else float32: what is computed with half-precision."""
    # Not `jnp.promote_types`, which refuses these pairs under strict dtype promotion.
    wide = any(array.dtype == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def as_core_array(array: jax.Array) -> np.ndarray:
    """A C-contiguous float32 or float64 NumPy view of a device array (free on the CPU)."""
    host = np.asarray(array)
    if host.dtype not in (np.float32, np.float64):
        host = host.astype(np.float32)
    return np.ascontiguousarray(host)


def all_finite(tree: Tree) -> jax.Array:
    """Whether every inexact number of a tree is finite, inside a program; shape ``()``."""
    finite = jnp.asarray(True)
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite


def is_finite(leaf: Any) -> bool:
    """Whether an array holds no NaN and no infinity; on the host where its numbers are there."""
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
        return True
    if isinstance(leaf, jax.Array) and any(d.platform != "cpu" for d in leaf.devices()):
        return bool(_all_finite(leaf))
    # A program for each shape would cost more to compile than the check itself.
    return _finite_on_host(np.asarray(leaf))


def first_not_finite(array: np.ndarray) -> tuple[int, ...]:
    """Index of the first entry that is a NaN or an infinity."""
    wide = array.astype(np.float64) if array.dtype.kind == "V" else array
    return tuple(int(i) for i in np.argwhere(~np.isfinite(wide))[0])


_all_finite = jax.jit(all_finite)


def _finite_on_host(array: np.ndarray) -> bool:
    # A sum is several times as fast as looking at each number, and finite only if all of them
    # are; where it is not it may just have overflowed.
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f" and np.isfinite(np.sum(array)):
            return True
    return bool(
        np.isfinite(array.astype(np.complex128 if array.dtype.kind == "c" else float)).all()
    )
