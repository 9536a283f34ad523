"""What one JAX pass over a piece of a batch gives back, and the checks that travel with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


class PassResult(NamedTuple):
    """Arrays of one pass over ``B`` points; on the device until somebody reads them.

    Attributes
    ----------
    outputs : jax.Array
        Outputs of the network, shape ``(B, C)``.
    block : jax.Array
        What the core is fed with: layer inputs ``(B, D')``, or Jacobian rows ``(B, R, P)``.
    inputs_finite, outputs_finite, block_finite, structure_holds : jax.Array
        Booleans, shape ``()``. The checks run in the same program as the pass, so that they cost
        no pass of their own and no transfer.
    """

    outputs: jax.Array
    block: jax.Array
    inputs_finite: jax.Array
    outputs_finite: jax.Array
    block_finite: jax.Array
    structure_holds: jax.Array


def all_finite(tree: Tree) -> jax.Array:
    """Whether every inexact number of a tree is finite; shape ``()``."""
    finite = jnp.asarray(True)
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite


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
