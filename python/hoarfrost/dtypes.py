"""Types of numbers: which are real, what is widened before it is added up, what is finite."""

from __future__ import annotations

import importlib
import math
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import NonFiniteError
from hoarfrost.types import Tree


def at_least_float32(values: jax.Array) -> jax.Array:
    """Half-precision values widened: a sum over them needs more than 8 or 11 bits."""
    return values.astype(jnp.float32) if values.dtype.itemsize < 4 else values


def widest(values: jax.Array) -> jax.Array:
    """The values in float64 within `in_float64`, elsewhere in what JAX has: float32 at least."""
    found: jax.Array = values.astype(jax.dtypes.canonicalize_dtype(np.float64))
    return found


def wide_dtype(*arrays: Any) -> Any:
    """float64 where one of the arrays is, else float32: what is computed with half-precision."""
    # Not `jnp.promote_types`, which refuses these pairs under strict dtype promotion.
    wide = any(array.dtype == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def in_float64() -> AbstractContextManager[Any]:
    """In this block JAX computes in float64 where it is told to; what is compiled is kept apart."""
    found: Any = getattr(jax, "enable_x64", None)
    if found is None:  # before JAX 0.8
        found = importlib.import_module("jax.experimental").enable_x64
    block: AbstractContextManager[Any] = found(True)
    return block


def narrowed(array: np.ndarray, dtype: Any, what: str, remedy: str) -> np.ndarray:
    """The array in another dtype.

    Raises
    ------
    NonFiniteError
        If a finite number of it is too large for that dtype.
    """
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype, copy=False)
    except FloatingPointError:
        with np.errstate(over="ignore"):
            lost = np.isfinite(array) & ~np.isfinite(array.astype(dtype).astype(np.float64))
    first = tuple(int(i) for i in np.argwhere(lost)[0])
    place = f" at index {first}" if first else ""
    raise NonFiniteError(
        f"{what} is {array[first]:.6g}{place}, too large for {jnp.dtype(dtype).name}; {remedy}"
    )


def is_real(dtype: Any) -> bool:
    """Whether a dtype is one of real numbers of at most 64 bits, or of yes and no."""
    if not isinstance(dtype, np.dtype):  # a key of JAX, or what a class has under that name
        return False
    if not (jnp.issubdtype(dtype, np.number) or dtype == np.bool_):
        return False
    # Durations count as whole numbers to NumPy.
    return dtype.kind not in "cm" and dtype.itemsize <= 8


def is_real_array(leaf: Any) -> bool:
    """Whether this is an array of real numbers, none of them masked."""
    if isinstance(leaf, np.ma.MaskedArray) and np.ma.getmaskarray(leaf).any():
        return False
    return is_real(getattr(leaf, "dtype", np.dtype(object)))


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


def on_host(leaf: Any) -> bool:
    """Whether the numbers of an array can be read by NumPy without a copy from a device."""
    if not isinstance(leaf, jax.Array):
        return True
    # A batch that is spread over devices stays so, also where those are CPUs.
    return len(leaf.devices()) == 1 and all(d.platform == "cpu" for d in leaf.devices())


def is_finite(tree: Tree) -> bool:
    """Whether no array of a tree holds a NaN or an infinity: one check, however many leaves.

    Numbers on the host are looked at there; all others by one program for the whole tree.
    """
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    far = [leaf for leaf in leaves if not on_host(leaf)]
    if far and not bool(_all_finite(far)):
        return False
    return all(_finite_on_host(np.asarray(leaf)) for leaf in leaves if on_host(leaf))


def copied(tree: Tree) -> Tree:
    """A copy of every array, by one program for all of them."""
    return _copies(tree)


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array to be filled that JAX can take over on a CPU without a copy: from 64 bytes on."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def first_not_finite(array: np.ndarray) -> tuple[int, ...]:
    """Index of the first entry that is a NaN or an infinity."""
    wide = array.astype(np.float64) if array.dtype.kind == "V" else array
    return tuple(int(i) for i in np.argwhere(~np.isfinite(wide))[0])


_all_finite = jax.jit(all_finite)
_copies = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _finite_on_host(array: np.ndarray) -> bool:
    # A sum is several times as fast as looking at each number, and finite only if all of them
    # are; where it is not it may just have overflowed.
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f" and np.isfinite(np.sum(array)):
            return True
    return bool(
        np.isfinite(array.astype(np.complex128 if array.dtype.kind == "c" else float)).all()
    )
