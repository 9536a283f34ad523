"""Covariance of the outputs at different inputs with each other, by what a factor can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hoarfrost.types import Array

# Pairs of points whose summed layer inputs are made at once.
_PAIRS_AT_ONCE = 4096


class Covaries(Protocol):
    """What is asked of a factor."""

    @property
    def order(self) -> Array:
        """Ravelled index of each core index, shape ``(P,)``, int64."""

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``."""

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """Its diagonal, shape ``(B, C)``."""


def diagonal_matrices(variance: Array) -> Array:
    """Matrices ``(B, C, C)`` with these diagonals ``(B, C)``."""
    matrices: Array = np.eye(variance.shape[1]) * variance[:, :, None]
    return matrices


def from_rows(factor: Covaries, block: Array) -> Array:
    """From Jacobians ``(B, C, P)``: to the core, one point with B C outputs."""
    count, num_outputs, num_params = block.shape
    together = factor.functional_covariance(block.reshape(1, count * num_outputs, num_params))
    return together.reshape(count, num_outputs, count, num_outputs)


def from_variances(factor: Covaries, block: Array) -> Array:
    """From variances alone: ``2 a^T S b = (a + b)^T S (a + b) - a^T S a - b^T S b``.

    Each output of a layer has a symmetric covariance ``S`` of its own here, and `block` holds the
    layer's inputs ``(B, D')``, so that nothing of size ``P^2`` is needed.
    """
    features = block.astype(np.float64)
    question = len(features) * (len(features) + 1) // 2
    variance = factor.functional_variance(features, question)
    count, num_outputs = variance.shape
    covariance = np.zeros((count, num_outputs, count, num_outputs))
    index = np.arange(num_outputs)
    first, second = np.triu_indices(count, 1)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        a, b = first[start : start + _PAIRS_AT_ONCE], second[start : start + _PAIRS_AT_ONCE]
        of_sum = factor.functional_variance(features[a] + features[b], question)
        pairs = (of_sum - variance[a] - variance[b]) / 2
        covariance[a[:, None], index, b[:, None], index] = pairs
        covariance[b[:, None], index, a[:, None], index] = pairs
    points = np.arange(count)[:, None]
    covariance[points, index, points, index] = variance
    return covariance


def from_covariance(factor: Covaries, block: Array, num_outputs: int) -> Array:
    """From the whole covariance of a layer whose outputs covary, outputs by features."""
    features = block.astype(np.float64)
    sigma = factor.covariance()[np.ix_(factor.order, factor.order)]
    sigma = sigma.reshape(num_outputs, features.shape[1], num_outputs, features.shape[1])
    half = np.einsum("cidj,mj->cidm", sigma, features, optimize=True)
    result: Array = np.einsum("ni,cidm->ncmd", features, half, optimize=True)
    return result


def rows_bytes(edge: int, num_params: int) -> int:
    """Bytes that `from_rows` takes for `edge` outputs of all points together."""
    return 2 * 8 * edge**2 + 2 * 8 * edge * num_params


def variances_bytes(edge: int) -> int:
    """Bytes that `from_variances` takes."""
    return 2 * 8 * edge**2


def covariance_bytes(edge: int, num_params: int) -> int:
    """Bytes that `from_covariance` takes."""
    return 2 * 8 * edge**2 + 2 * 8 * num_params**2 + 8 * edge * num_params
