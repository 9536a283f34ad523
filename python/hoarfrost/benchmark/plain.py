"""Plain JAX: what a few lines give. Jacobians by `jacrev`, products by `einsum`, one Cholesky.

Jitted, the sum's buffer donated, the data in batches so that a batch of Jacobians fits in memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from hoarfrost.benchmark import models
from hoarfrost.benchmark.cases import (
    GRID,
    NEW_PRIOR_PRECISION,
    NUM_SAMPLES,
    PRIOR_PRECISION,
    Case,
    params_of,
)

# Bytes of the Jacobians of one batch.
JACOBIAN_BYTES = 2**28


class Plain:
    """A posterior as a page of JAX makes it."""

    def __init__(self, case: Case, inputs: dict[str, np.ndarray]) -> None:
        self.kind = case.kind
        dtype = jnp.zeros(0).dtype
        apply = models.head_apply if case.is_head else models.network_apply
        params = {name: jnp.asarray(v, dtype) for name, v in params_of(inputs).items()}
        self.mean, unravel = ravel_pytree(params)
        self.apply = partial(_apply_flat, apply, unravel)
        self.x, self.points = jnp.asarray(inputs["x"], dtype), jnp.asarray(inputs["points"], dtype)
        self.batch = points_in(JACOBIAN_BYTES, case.num_outputs * self.mean.size * dtype.itemsize)
        self.curvature: Any = None
        self.chol: Any = None
        self.key = jax.random.key(0)

    def prepare(self, operation: str) -> None:
        """What is not timed: an old posterior goes before a fit."""
        if operation == "fit":
            self.curvature = self.chol = None
        elif operation in ("new_prior", "tune"):
            self.chol = None

    def fit(self) -> None:
        """Assemble and factor."""
        total = jnp.zeros((self.mean.size, self.mean.size), self.mean.dtype)
        for start in range(0, len(self.x), self.batch):
            total = _accumulate(
                self.kind, self.apply, total, self.mean, self.x[start : start + self.batch]
            )
        self.curvature = total
        self.chol = models.wait(_factor(total, PRIOR_PRECISION))

    def evidence(self) -> float:
        """``log |A|``."""
        return float(_log_det(self.chol))

    def new_prior(self) -> float:
        """``log |A|`` under another prior."""
        self.chol = _factor(self.curvature, NEW_PRIOR_PRECISION)
        return self.evidence()

    def tune(self) -> float:
        """The largest evidence on a grid: a factorisation for each point."""
        return max(self._evidence_at(float(value)) for value in GRID)

    def _evidence_at(self, prior_precision: float) -> float:
        """The log evidence up to the likelihood, which the prior does not move."""
        self.chol = _factor(self.curvature, prior_precision)
        squares = float(jnp.vdot(self.mean, self.mean))
        log_prior = self.mean.size * np.log(prior_precision) - prior_precision * squares
        return 0.5 * (log_prior - self.evidence())

    def sample(self) -> Any:
        """Draws by a triangular solve."""
        self.key, key = jax.random.split(self.key)
        return models.wait(_sample(self.chol, self.mean, key))

    def functional(self) -> np.ndarray:
        """Covariance of the outputs at the points, by triangular solves."""
        starts = range(0, len(self.points), self.batch)
        parts = [
            _functional(self.apply, self.chol, self.mean, self.points[s : s + self.batch])
            for s in starts
        ]
        return np.concatenate([np.asarray(part) for part in parts])

    functional_fresh = functional


def points_in(limit: int, bytes_each: int) -> int:
    """How many points of a size go into a number of bytes; at least one."""
    return max(1, limit // bytes_each)


def _apply_flat(apply: Any, unravel: Any, flat: jax.Array, x: jax.Array) -> jax.Array:
    outputs: jax.Array = apply(unravel(flat), x[None])[0]
    return outputs


def _jacobian(apply: Any, mean: jax.Array, x: jax.Array) -> jax.Array:
    jacobian: jax.Array = jax.vmap(jax.jacrev(apply), (None, 0))(mean, x)
    return jacobian


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _accumulate(
    kind: str, apply: Any, total: jax.Array, mean: jax.Array, x: jax.Array
) -> jax.Array:
    jacobian = _jacobian(apply, mean, x)
    curvature = models.output_curvature(kind, jax.vmap(apply, (None, 0))(mean, x))
    added: jax.Array = jnp.einsum("bcp,bcd,bdq->pq", jacobian, curvature, jacobian)
    return total + added


@jax.jit
def _factor(curvature: jax.Array, prior_precision: float) -> jax.Array:
    return jnp.linalg.cholesky(curvature + prior_precision * jnp.eye(len(curvature)))


@jax.jit
def _log_det(chol: jax.Array) -> jax.Array:
    return 2 * jnp.sum(jnp.log(jnp.diag(chol)))


@jax.jit
def _sample(chol: jax.Array, mean: jax.Array, key: jax.Array) -> jax.Array:
    z = jax.random.normal(key, (mean.size, NUM_SAMPLES), mean.dtype)
    draws = jax.scipy.linalg.solve_triangular(chol, z, lower=True, trans=1)
    return mean[:, None] + draws


@partial(jax.jit, static_argnums=0)
def _functional(apply: Any, chol: jax.Array, mean: jax.Array, x: jax.Array) -> jax.Array:
    jacobian = _jacobian(apply, mean, x)
    b, c, p = jacobian.shape
    solved = jax.scipy.linalg.solve_triangular(chol, jacobian.reshape(b * c, p).T, lower=True)
    solved = solved.T.reshape(b, c, p)
    return jnp.einsum("bcp,bdp->bcd", solved, solved)
