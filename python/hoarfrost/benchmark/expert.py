"""Expert JAX: the structure of the last layer written out, no Jacobian of size ``C x P``.

A softmax: ``blockdiag(Phi^T diag(p_c) Phi) - Z^T Z`` with ``Z = [p (x) phi]``. *Tuned* is the same
with every trick that JAX leaves to them: the lower triangle of ``Z^T Z`` alone, triangular solves
that skip the zeros above ``I (x) a``, and for later calls blocks of the covariance that are made
outside the timing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.benchmark import models, solves
from hoarfrost.benchmark.cases import (
    GRID,
    NEW_PRIOR_PRECISION,
    NOISE_STD,
    PRIOR_PRECISION,
    Case,
    params_of,
)
from hoarfrost.benchmark.plain import points_in

# Bytes of Z, and of right-hand sides, that are there at a time.
PANEL_BYTES = 2**29


class Expert:
    """A last layer's posterior in JAX; `tuned` as the module says."""

    def __init__(self, case: Case, inputs: dict[str, np.ndarray], tuned: bool = False) -> None:
        self.kind, self.tuned = case.kind, tuned
        dtype = jnp.zeros(0).dtype
        self.params = {name: jnp.asarray(v, dtype) for name, v in params_of(inputs).items()}
        self.x, self.points = jnp.asarray(inputs["x"], dtype), jnp.asarray(inputs["points"], dtype)
        softmax = case.kind == "softmax"
        # Outputs that do not interact share one factor where their weights are the same.
        self.copies = 1 if softmax else case.num_outputs
        self.size = case.num_params if softmax else case.num_features
        self.depth = points_in(PANEL_BYTES, case.num_params * dtype.itemsize)
        self.chunk = points_in(PANEL_BYTES, case.num_outputs * self.size * dtype.itemsize)
        self.curvature: Any = None
        self.chol: Any = None
        self.blocks: Any = None
        self.key = jax.random.key(0)

    def prepare(self, operation: str) -> None:
        """What is not timed: room before a fit, the curvature before a new prior, tuned's cache."""
        if operation == "fit":
            self.curvature = self.chol = self.blocks = None
        elif operation in ("new_prior", "tune"):
            self.chol = self.blocks = None
            if self.curvature is None:
                self.curvature = models.wait(self._assemble())
        elif operation == "functional_cached" and self.blocks is None:
            self.blocks = models.wait(solves.inverse(self.chol))

    def fit(self) -> None:
        """Assemble and factor in place."""
        self.chol = models.wait(solves.factor_in_place(self._assemble(), PRIOR_PRECISION))

    def evidence(self) -> float:
        """``log |A|``."""
        return self.copies * float(solves.log_det(self.chol))

    def new_prior(self) -> float:
        """``log |A|`` under another prior."""
        self.chol = solves.factor_kept(self.curvature, NEW_PRIOR_PRECISION)
        return self.evidence()

    def tune(self) -> float:
        """The largest evidence on a grid: a factorisation for each point."""
        return max(self._evidence_at(float(value)) for value in GRID)

    def _evidence_at(self, prior_precision: float) -> float:
        """The log evidence up to the likelihood, which the prior does not move."""
        self.chol = solves.factor_kept(self.curvature, prior_precision)
        squares = sum(float(jnp.vdot(leaf, leaf)) for leaf in self.params.values())
        size = sum(leaf.size for leaf in self.params.values())
        return 0.5 * (size * np.log(prior_precision) - prior_precision * squares - self.evidence())

    def sample(self) -> Any:
        """Deviations by a triangular solve."""
        self.key, key = jax.random.split(self.key)
        return models.wait(solves.sample(self.chol, key, self.copies))

    def functional(self) -> np.ndarray:
        """Covariance of the outputs at the points, by triangular solves."""
        if self.copies > 1 or self.kind == "bernoulli":
            return np.asarray(_independent_functional(self.chol, self.points, self.copies))
        program = _skipping_functional if self.tuned else _functional
        return self._by_chunks(lambda x: program(self.chol, x))

    functional_fresh = functional

    def functional_cached(self) -> np.ndarray:
        """The same from blocks of the covariance that are there already."""
        return self._by_chunks(lambda x: _cached_functional(self.blocks, x))

    def _assemble(self) -> jax.Array:
        if self.kind != "softmax":
            independent: jax.Array = _independent_curvature(self.kind, self.params, self.x)
            return independent
        if self.tuned:
            return self._assemble_lower()
        total: jax.Array = _softmax_curvature(self.params, self.x[: self.depth])
        for start in range(self.depth, len(self.x), self.depth):
            piece = self.x[start : start + self.depth]
            total = _add_softmax_curvature(total, self.params, piece)
        return total

    def _assemble_lower(self) -> jax.Array:
        """Block rows of the lower triangle, one program each so that few buffers are alive."""
        total = jnp.zeros((self.size, self.size), self.x.dtype)
        for start in range(0, len(self.x), self.depth):
            piece = self.x[start : start + self.depth]
            for first, last in solves.strips(self.params["bias"].size):
                total = _add_block_row(total, self.params, piece, first, last)
        return total

    def _by_chunks(self, program: Any) -> np.ndarray:
        starts = range(0, len(self.points), self.chunk)
        parts = [program(self.points[start : start + self.chunk]) for start in starts]
        return np.concatenate([np.asarray(part) for part in parts])


def _with_one(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)


def _softmax_terms(params: Any, x: jax.Array) -> jax.Array:
    phi = _with_one(x)
    p = jax.nn.softmax(x @ params["kernel"] + params["bias"])
    return _add_diagonal_blocks(-solves.gram(_khatri_rao(p, phi)), p, phi, 0)


def _khatri_rao(p: jax.Array, phi: jax.Array) -> jax.Array:
    """``Z = [p (x) phi]``, shape ``(N, C D')``."""
    return (p[:, :, None] * phi[:, None, :]).reshape(len(phi), -1)


def _add_diagonal_blocks(total: jax.Array, p: jax.Array, phi: jax.Array, column: int) -> jax.Array:
    """``Phi^T diag(p_c) Phi`` for each column of `p`, along a diagonal that starts at `column`."""
    d = phi.shape[1]

    def add_block(k: Any, total: jax.Array) -> jax.Array:
        weight = jax.lax.dynamic_slice_in_dim(p, k, 1, axis=1)
        corner = (k * d, column + k * d)
        old = jax.lax.dynamic_slice(total, corner, (d, d))
        block = solves.dot((phi * weight).T, phi)
        return jax.lax.dynamic_update_slice(total, old + block, corner)

    result: jax.Array = jax.lax.fori_loop(0, p.shape[1], add_block, total)
    return result


@jax.jit
def _softmax_curvature(params: Any, x: jax.Array) -> jax.Array:
    return _softmax_terms(params, x)


@partial(jax.jit, donate_argnums=0)
def _add_softmax_curvature(total: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    return total + _softmax_terms(params, x)


@partial(jax.jit, static_argnums=(3, 4), donate_argnums=0)
def _add_block_row(total: jax.Array, params: Any, x: jax.Array, first: int, last: int) -> jax.Array:
    phi = _with_one(x)
    p = jax.nn.softmax(x @ params["kernel"] + params["bias"])
    own, start, stop = p[:, first:last], first * phi.shape[1], last * phi.shape[1]
    rows = -solves.dot(_khatri_rao(own, phi).T, _khatri_rao(p[:, :last], phi))
    return total.at[start:stop, :stop].add(_add_diagonal_blocks(rows, own, phi, start))


@partial(jax.jit, static_argnums=0)
def _independent_curvature(kind: str, params: Any, x: jax.Array) -> jax.Array:
    phi = _with_one(x)
    if kind == "gaussian":
        return solves.gram(phi) / NOISE_STD**2
    p = jax.nn.sigmoid(x @ params["kernel"] + params["bias"])
    return solves.dot((phi * p * (1 - p)).T, phi)


@jax.jit
def _functional(chol: jax.Array, x: jax.Array) -> jax.Array:
    phi = _with_one(x)
    (b, d), c = phi.shape, len(chol) // phi.shape[1]
    # Column (k, n) is e_k (x) a_n.
    rhs = jnp.einsum("ck,nd->cdkn", jnp.eye(c, dtype=x.dtype), phi).reshape(c * d, c * b)
    solved = solves.solve(chol, rhs).reshape(c * d, c, b)
    return jnp.einsum("pkn,pln->nkl", solved, solved)


@jax.jit
def _skipping_functional(chol: jax.Array, x: jax.Array) -> jax.Array:
    phi = _with_one(x)
    (b, d), c = phi.shape, len(chol) // phi.shape[1]
    # Outputs in strips: the solve of a strip starts at its first row that is not zero.
    solved = []
    for first, last in solves.strips(c):
        height, width = (c - first) * d, last - first
        eye = jnp.eye(c - first, width, dtype=x.dtype)
        rhs = jnp.einsum("ck,nd->cdkn", eye, phi).reshape(height, width * b)
        start = first * d
        solved.append(solves.solve(chol[start:, start:], rhs).reshape(height, width, b))
    lower = [
        [jnp.einsum("pkn,pln->nkl", high, low[-len(high) :]) for low in solved[: k + 1]]
        for k, high in enumerate(solved)
    ]
    order = range(len(lower))
    rows = [[_symmetric_block(lower, k, m) for m in order] for k in order]
    return jnp.concatenate([jnp.concatenate(row, axis=2) for row in rows], axis=1)


def _symmetric_block(lower: list[list[jax.Array]], k: int, m: int) -> jax.Array:
    return lower[k][m] if k >= m else jnp.swapaxes(lower[m][k], 1, 2)


@jax.jit
def _cached_functional(covariance: jax.Array, x: jax.Array) -> jax.Array:
    phi = _with_one(x)
    (b, d), p = phi.shape, len(covariance)

    def block_row(first: Any) -> jax.Array:
        rows = jax.lax.dynamic_slice(covariance, (first, 0), (d, p))
        product = solves.dot(phi, rows)
        return jnp.einsum("nld,nd->nl", product.reshape(b, p // d, d), phi)

    return jnp.swapaxes(jax.lax.map(block_row, jnp.arange(0, p, d)), 0, 1)


@partial(jax.jit, static_argnums=2)
def _independent_functional(chol: jax.Array, x: jax.Array, copies: int) -> jax.Array:
    solved = solves.solve(chol, _with_one(x).T)
    variance = jnp.sum(solved * solved, axis=0)
    return variance[:, None, None] * jnp.eye(copies, dtype=x.dtype)
