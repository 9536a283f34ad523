"""Expert JAX for a whole network: rows ``J^T Lambda^1/2`` by VJPs, one product, one Cholesky.

*Tuned* takes the lower triangle of the product alone. Beside it, Cholesky by itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from hoarfrost.benchmark import models, solves
from hoarfrost.benchmark.cases import (
    NEW_PRIOR_PRECISION,
    PRIOR_PRECISION,
    Case,
    params_of,
)
from hoarfrost.benchmark.expert import PANEL_BYTES
from hoarfrost.benchmark.plain import points_in


class ExpertNetwork:
    """A network's posterior in JAX; `tuned` as the module says."""

    def __init__(self, case: Case, inputs: dict[str, np.ndarray], tuned: bool = False) -> None:
        self.tuned = tuned
        dtype = jnp.zeros(0).dtype
        self.params = {name: jnp.asarray(v, dtype) for name, v in params_of(inputs).items()}
        self.x, self.points = jnp.asarray(inputs["x"], dtype), jnp.asarray(inputs["points"], dtype)
        self.size = case.num_params
        self.batch = points_in(PANEL_BYTES, case.num_outputs * self.size * dtype.itemsize)
        self.curvature: Any = None
        self.chol: Any = None
        self.key = jax.random.key(0)

    def prepare(self, operation: str) -> None:
        """What is not timed: room before a fit, the curvature before a new prior."""
        if operation == "fit":
            self.curvature = self.chol = None
        elif operation == "new_prior":
            self.chol = None
            if self.curvature is None:
                self.curvature = models.wait(self._assemble())

    def fit(self) -> None:
        """Assemble and factor in place."""
        self.chol = models.wait(solves.factor_in_place(self._assemble(), PRIOR_PRECISION))

    def evidence(self) -> float:
        """``log |A|``."""
        return float(solves.log_det(self.chol))

    def new_prior(self) -> float:
        """``log |A|`` under another prior."""
        self.chol = solves.factor_kept(self.curvature, NEW_PRIOR_PRECISION)
        return self.evidence()

    def sample(self) -> Any:
        """Deviations by a triangular solve."""
        self.key, key = jax.random.split(self.key)
        return models.wait(solves.sample(self.chol, key, 1))

    def functional(self) -> np.ndarray:
        """Covariance of the outputs at the points, by triangular solves."""
        starts = range(0, len(self.points), self.batch)
        parts = [
            _functional(self.chol, self.params, self.points[start : start + self.batch])
            for start in starts
        ]
        return np.concatenate([np.asarray(part) for part in parts])

    def _assemble(self) -> jax.Array:
        total = jnp.zeros((self.size, self.size), self.x.dtype)
        for start in range(0, len(self.x), self.batch):
            piece = self.x[start : start + self.batch]
            if self.tuned:
                total = solves.add_lower_gram(total, _rows(self.params, piece))
            else:
                total = _accumulate(total, self.params, piece)
        return total


class JaxCholesky:
    """`jnp.linalg.cholesky` of a matrix whose buffer is donated."""

    def __init__(self, case: Case, inputs: dict[str, np.ndarray]) -> None:
        self.rows = jnp.asarray(inputs["rows"], jnp.zeros(0).dtype)
        self.curvature: Any = None
        self.chol: Any = None

    def prepare(self, operation: str) -> None:
        """A matrix to factor."""
        if operation == "cholesky":
            self.chol = None
            self.curvature = models.wait(_gram(self.rows))

    def cholesky(self) -> None:
        """Factor in place."""
        prior = float(self.curvature.shape[0])
        self.chol = models.wait(solves.factor_in_place(self.curvature, prior))

    def evidence(self) -> float:
        """``log |A|``."""
        return float(solves.log_det(self.chol))


@jax.jit
def _gram(rows: jax.Array) -> jax.Array:
    return solves.gram(rows)


def _pulled_back(params: Any, x: jax.Array, cotangents: jax.Array) -> jax.Array:
    """``cotangents^T J`` of every point: ``(B, C, R) -> (B, R, P)``."""

    def one(x: jax.Array, cotangents: jax.Array) -> jax.Array:
        _, pull = jax.vjp(lambda p: models.network_apply(p, x[None])[0], params)
        rows: jax.Array = jax.vmap(lambda row: ravel_pytree(pull(row)[0])[0])(cotangents.T)
        return rows

    result: jax.Array = jax.vmap(one)(x, cotangents)
    return result


@jax.jit
def _rows(params: Any, x: jax.Array) -> jax.Array:
    root = models.softmax_root(models.network_apply(params, x))
    rows = _pulled_back(params, x, root)
    return rows.reshape(-1, rows.shape[-1])


@partial(jax.jit, donate_argnums=0)
def _accumulate(total: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    return total + solves.gram(_rows(params, x))


@jax.jit
def _functional(chol: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    outputs = models.network_apply(params, x)
    b, c = outputs.shape
    eye = jnp.broadcast_to(jnp.eye(c, dtype=x.dtype), (b, c, c))
    jacobian = _pulled_back(params, x, eye)
    solved = solves.solve(chol, jacobian.reshape(b * c, -1).T).reshape(-1, b, c)
    return jnp.einsum("pbc,pbd->bcd", solved, solved)
