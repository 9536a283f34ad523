"""The definitions that the properties table is held against, in NumPy and in the open.

The network of the table is ``f(x) = tanh(x W1 + b1) W2 + b2``. Its Jacobian is written out by
hand; every expectation over Gaussian outputs is a sum over the nodes of a product quadrature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
LEAVES = (("first", "bias"), ("first", "kernel"), ("last", "bias"), ("last", "kernel"))
EPS = float(np.finfo(np.float64).eps)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(24)


def outputs(params: Any, x: Array) -> Array:
    """``(N, C)``; with a leading axis S in every leaf, ``(S, N, C)``."""
    (b1, w1, b2, w2) = (np.asarray(params[layer][leaf]) for layer, leaf in LEAVES)
    hidden = np.tanh(x @ w1 + b1[..., None, :])
    return hidden @ w2 + b2[..., None, :]


def leaf_jacobians(params: Any, x: Array) -> list[Array]:
    """One of each leaf, ``(N, C, size)``, in the order of `LEAVES`."""
    (b1, w1, _, w2) = (np.asarray(params[layer][leaf]) for layer, leaf in LEAVES)
    hidden = np.tanh(x @ w1 + b1)
    through = np.einsum("nk,kc->nck", 1 - hidden**2, w2)
    eye, count = np.eye(w2.shape[1]), len(x)
    parts = (
        through,
        np.einsum("ni,nck->ncik", x, through),
        np.broadcast_to(eye, (count, *eye.shape)),
        np.einsum("nk,cd->nckd", hidden, eye),
    )
    return [part.reshape(count, len(eye), -1) for part in parts]


@dataclass(frozen=True)
class Dense:
    """A subset of the parameters of a network: all that a structure may ask for."""

    params: Any
    chosen: tuple[bool, ...]

    @property
    def mean(self) -> Array:
        """``(P,)``."""
        leaves = (self.params[layer][leaf] for layer, leaf in LEAVES)
        return np.concatenate(
            [np.ravel(v) for v, use in zip(leaves, self.chosen, strict=True) if use]
        )

    def jacobian(self, x: Array) -> Array:
        """``(N, C, P)``."""
        parts = leaf_jacobians(self.params, x)
        return np.concatenate([p for p, use in zip(parts, self.chosen, strict=True) if use], axis=2)

    def outputs(self, x: Array) -> Array:
        """``(N, C)``."""
        return outputs(self.params, x)

    def exact_curvature(self, x: Array, output_curvature: Callable[[Array], Array]) -> Array:
        """``sum_n J_n^T Lambda_n J_n``, the generalised Gauss-Newton matrix, ``(P, P)``."""
        jacobian = self.jacobian(x)
        return np.einsum(
            "ncp,ncd,ndq->pq", jacobian, output_curvature(self.outputs(x)), jacobian, optimize=True
        )

    def layer_curvature(self, x: Array, output_curvature: Callable[[Array], Array]) -> Array:
        """``(1/N sum_n B_n) (x) (sum_n a_n a_n^T)`` of each layer, ``(P, P)``.

        ``a_n`` is the layer's input, with a 1 where the bias is chosen, and ``B_n`` the curvature
        of the layer's outputs.
        """
        hidden = np.tanh(x @ self.params["first"]["kernel"] + self.params["first"]["bias"])
        kernel = np.asarray(self.params["last"]["kernel"])
        through = np.einsum("nk,kc->nck", 1 - hidden**2, kernel)
        eye = np.broadcast_to(np.eye(kernel.shape[1]), (len(x), *[kernel.shape[1]] * 2))
        weights, blocks, start = output_curvature(self.outputs(x)), [], 0
        for inputs, gradients, (bias, chosen) in (
            (x, through, self.chosen[:2]),
            (hidden, eye, self.chosen[2:]),
        ):
            # Ravelled, a layer's bias comes before the rows of its kernel.
            ones = np.ones((len(x), 1))
            a = np.concatenate(
                [ones[:, : int(bias)], inputs[:, : inputs.shape[1] * chosen]], axis=1
            )
            size = gradients.shape[2]
            mean = np.einsum("ncj,ncd,ndk->jk", gradients, weights, gradients) / len(x)
            blocks.append(np.kron(a.T @ a, mean).reshape(a.shape[1] * size, a.shape[1] * size))
            start += len(blocks[-1])
        total = np.zeros((start, start))
        start = 0
        for block in blocks:
            total[start : start + len(block), start : start + len(block)] = block
            start += len(block)
        return total


def evidence(log_likelihood: float, prior: Array, deviation: Array, precision: Array) -> float:
    """``log p(y) = log p(y | mean) + log N(mean; prior) + P / 2 log(2 pi) - log det(A) / 2``."""
    log_prior = np.sum(np.log(prior)) - deviation @ (prior * deviation)
    return float(log_likelihood + (log_prior - np.linalg.slogdet(precision)[1]) / 2)


def expectation(function: Callable[[Array], Array], mean: Array, covariance: Array) -> Array:
    """Mean of ``function(f)`` over ``f ~ N(mean, covariance)`` at each point.

    `mean` is ``(N, C)``, `covariance` ``(N, C, C)``; `function` takes ``(K, N, C)``.
    """
    count = mean.shape[1]
    grid = np.stack(np.meshgrid(*[NODES] * count, indexing="ij"), axis=-1).reshape(-1, count)
    weights = np.prod(
        np.stack(np.meshgrid(*[WEIGHTS] * count, indexing="ij"), axis=-1), axis=-1
    ).ravel()
    root = np.linalg.cholesky(covariance + EPS * np.eye(count))
    values = function(mean + np.einsum("ncd,kd->knc", root, grid))
    return np.tensordot(weights / weights.sum(), values, axes=1)


def assert_close(got: Any, expected: Any, size: int, condition: float = 1.0) -> None:
    """Equal to the rounding of sums of `size` terms in float64, times a condition number."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * size * EPS * condition * scale)
