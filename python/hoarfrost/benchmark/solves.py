"""Factor, samples and triangular solves in JAX, as an expert writes them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp

from hoarfrost.benchmark.cases import NUM_SAMPLES

# Block rows of a lower triangle: 55 % of the full product's work.
STRIPS = 10


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


def gram(rows: jax.Array) -> jax.Array:
    """``rows^T rows``."""
    return dot(rows.T, rows)


def add_lower_gram(total: jax.Array, rows: jax.Array) -> jax.Array:
    """Add the lower triangle of ``rows^T rows`` in block rows, one program each.

    In one program XLA has all slices of `rows` in memory at once.
    """
    for first, last in strips(rows.shape[1]):
        total = _add_block_row(total, rows, first, last)
    return total


def strips(size: int) -> list[tuple[int, int]]:
    """A range cut into at most `STRIPS` nearly equal ones."""
    count = min(size, STRIPS)
    return list(pairwise(size * k // count for k in range(count + 1)))


def dot(left: jax.Array, right: jax.Array) -> jax.Array:
    """A product in full precision.

    On a GPU the default for float32 is TF32, whose error a Cholesky does not survive.
    """
    return jnp.dot(left, right, precision=jax.lax.Precision.HIGHEST)


@partial(jax.jit, static_argnums=(2, 3), donate_argnums=0)
def _add_block_row(total: jax.Array, rows: jax.Array, first: int, last: int) -> jax.Array:
    return total.at[first:last, :last].add(dot(rows[:, first:last].T, rows[:, :last]))
