"""Factor, samples and triangular solves in JAX, as an expert writes them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp

from hoarfrost.benchmark.cases import NUM_SAMPLES


def factor(curvature: jax.Array, prior_precision: float) -> jax.Array:
    """Cholesky of ``H + tau I``; only the lower triangle is read."""
    index = jnp.arange(len(curvature))
    precision = curvature.at[index, index].add(prior_precision)
    return jax.lax.linalg.cholesky(precision, symmetrize_input=False)


# The sum is not needed again, so its buffer becomes the factor.
factor_in_place = jax.jit(factor, donate_argnums=0)
factor_kept = jax.jit(factor)


@jax.jit
def log_det(chol: jax.Array) -> jax.Array:
    """``log |A|`` from its factor."""
    return 2 * jnp.sum(jnp.log(jnp.diag(chol)))


@partial(jax.jit, static_argnums=2)
def sample(chol: jax.Array, key: jax.Array, copies: int) -> jax.Array:
    """Deviations, one a column; `copies` independent blocks share the factor."""
    z = jax.random.normal(key, (len(chol), copies * NUM_SAMPLES), chol.dtype)
    return jax.lax.linalg.triangular_solve(chol, z, left_side=True, lower=True, transpose_a=True)


def solve(chol: jax.Array, rhs: jax.Array) -> jax.Array:
    """``L^-1 rhs``."""
    return jax.lax.linalg.triangular_solve(chol, rhs, left_side=True, lower=True)


@jax.jit
def inverse(chol: jax.Array) -> jax.Array:
    """``A^-1`` from its factor."""
    half = solve(chol, jnp.eye(len(chol), dtype=chol.dtype))
    return jax.lax.linalg.triangular_solve(chol, half, left_side=True, lower=True, transpose_a=True)


def gram(rows: jax.Array, strips: int) -> jax.Array:
    """``rows^T rows``; with more than one strip, block rows of the lower triangle alone."""
    if strips == 1:
        return _dot(rows.T, rows)
    size = rows.shape[1]
    edges = [size * k // strips for k in range(strips + 1)]
    total = jnp.zeros((size, size), rows.dtype)
    for first, last in pairwise(edges):
        total = total.at[first:last, :last].set(_dot(rows[:, first:last].T, rows[:, :last]))
    return total


def _dot(left: jax.Array, right: jax.Array) -> jax.Array:
    # On a GPU the default for float32 is TF32, whose error a Cholesky does not survive.
    return jnp.dot(left, right, precision=jax.lax.Precision.HIGHEST)
