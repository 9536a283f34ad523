"""A posterior's covariance as plain arrays, and the JAX that applies them: nothing of the core.

Roots and not covariances: with ``Sigma = R^T R`` a variance is ``|R j|^2``, which float32 knows to
rounding and which cannot be negative; ``j^T Sigma j`` loses as many digits as ``Sigma`` has between
its largest and its least eigenvalue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.types import Array

# (arrays, layer inputs or Jacobian, whether covariances are wanted) to (B, C, C) or (B, C).
Apply = Callable[[Mapping[str, jax.Array], jax.Array, bool], jax.Array]


@dataclass(frozen=True)
class Roots:
    """Arrays in float64, and what they are for: a module-level function."""

    arrays: Mapping[str, Array]
    apply: Apply


def root_of(covariance: Array) -> Array:
    """``R`` with ``R^T R`` a covariance, shape as it is; upper triangular where that exists."""
    try:
        return np.linalg.cholesky(covariance).T
    except np.linalg.LinAlgError:  # rounding left a direction without variance below zero
        values, vectors = np.linalg.eigh(covariance)
        root: Array = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        return root


def separate_roots(roots: Array, which: Array | None = None, scale: Array | None = None) -> Roots:
    """Of outputs that do not covary, from a root for each or for several of them."""
    which = np.arange(len(roots), dtype=np.int32) if which is None else which.astype(np.int32)
    scale = np.ones(len(which)) if scale is None else scale
    return Roots({"roots": roots, "which": which, "scale": scale}, of_outputs)


def of_rows(arrays: Mapping[str, jax.Array], rows: jax.Array, covariance: bool) -> jax.Array:
    """From Jacobians ``(B, C, P)`` and one root ``(P, P)``."""
    return _gram(jnp.einsum("bcp,qp->bcq", rows, arrays["root"]), covariance)


def of_scaled_rows(arrays: Mapping[str, jax.Array], rows: jax.Array, covariance: bool) -> jax.Array:
    """From Jacobians ``(B, C, P)`` and standard deviations ``(P,)``."""
    return _gram(rows * arrays["std"], covariance)


def of_lowered_rows(
    arrays: Mapping[str, jax.Array], rows: jax.Array, covariance: bool
) -> jax.Array:
    """From Jacobians ``(B, C, P)`` and a root ``(I - G^T G) diag(std)`` with ``G`` ``(M, P)``."""
    rows, lowered = rows * arrays["std"], arrays["lowered"]
    seen = jnp.einsum("bcp,mp->bcm", rows, lowered)
    return _gram(rows - jnp.einsum("bcm,mp->bcp", seen, lowered), covariance)


def of_lowered_layer(
    arrays: Mapping[str, jax.Array], features: jax.Array, covariance: bool
) -> jax.Array:
    """The same from layer inputs ``(B, D')``; the standard deviations are ``(C, D')``."""
    std, eye = arrays["std"], jnp.eye(len(arrays["std"]), dtype=features.dtype)
    rows = jnp.einsum("cd,bi->bcdi", eye, features).reshape(len(features), len(std), -1)
    return of_lowered_rows({**arrays, "std": std.reshape(-1)}, rows, covariance)


def of_layer(arrays: Mapping[str, jax.Array], features: jax.Array, covariance: bool) -> jax.Array:
    """From layer inputs ``(B, D')`` and one root ``(P, C, D')`` of all outputs."""
    return _gram(jnp.einsum("bi,qci->bcq", features, arrays["root"]), covariance)


def of_outputs(arrays: Mapping[str, jax.Array], features: jax.Array, covariance: bool) -> jax.Array:
    """From layer inputs and roots ``(K, D', D')``; output ``c`` has root ``which[c]``.

    Variances are multiplied by ``scale[c]``; outputs do not covary.
    """
    rotated = jnp.einsum("bi,kqi->bkq", features, arrays["roots"])
    variance = jnp.sum(rotated**2, axis=-1)[:, arrays["which"]] * arrays["scale"]
    return _diagonal(variance, covariance)


def of_rotation(
    arrays: Mapping[str, jax.Array], features: jax.Array, covariance: bool
) -> jax.Array:
    """From layer inputs, a rotation ``(D', D')``, and variances ``(C, D')`` along its rows."""
    rotated = jnp.einsum("bi,qi->bq", features, arrays["rotation"])
    return _diagonal(jnp.einsum("bq,cq->bc", rotated**2, arrays["variances"]), covariance)


def of_variances(
    arrays: Mapping[str, jax.Array], features: jax.Array, covariance: bool
) -> jax.Array:
    """From layer inputs and the variance ``(C, D')`` of each parameter."""
    return _diagonal(jnp.einsum("bi,ci->bc", features**2, arrays["variances"]), covariance)


def _gram(rotated: jax.Array, covariance: bool) -> jax.Array:
    if covariance:
        return jnp.einsum("bcq,bdq->bcd", rotated, rotated)
    return jnp.sum(rotated**2, axis=-1)


def _diagonal(variance: jax.Array, covariance: bool) -> jax.Array:
    if covariance:
        return variance[:, :, None] * jnp.eye(variance.shape[1], dtype=variance.dtype)
    return variance
