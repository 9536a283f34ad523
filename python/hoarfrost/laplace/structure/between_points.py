"""Covariance of the outputs at different inputs with each other, by what a factor can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hoarfrost.types import Array

# Pairs of points whose summed layer inputs are made at once, and how many numbers those may hold.
_PAIRS_AT_ONCE = 4096
_NUMBERS_AT_ONCE = 2**22

# Operations of one product of matrices, which hears no Ctrl-C: a fraction of a second.
_FLOPS_AT_ONCE = 4e9


class Covaries(Protocol):
    """What is asked of a factor."""

    @property
    def order(self) -> Array:
        """Ravelled index of each core index, shape ``(P,)``, int64."""

    def covariance_as_factored(self) -> Array:
        """``A^-1``, shape ``(P, P)``, in the core's own order."""

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
    step = _pairs_at_once(features.shape[1])
    for start in range(0, len(first), step):
        a, b = first[start : start + step], second[start : start + step]
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
    count, width = features.shape
    sigma = factor.covariance_as_factored().reshape(num_outputs, width, num_outputs, width)
    covariance = np.empty((count, num_outputs, count, num_outputs))
    # One output, and some of the points on the other side, at a time.
    step = _rows_at_once(num_outputs * width * max(width, count))
    for start in range(0, count, step):
        some = features[start : start + step].T
        for output in range(num_outputs):
            half = (sigma[output].reshape(-1, width) @ some).reshape(width, -1)
            part = (features @ half).reshape(count, num_outputs, -1)
            covariance[:, output, start : start + step] = part.swapaxes(1, 2)
    return covariance


def from_diagonal(variance: Array, block: Array) -> Array:
    """From Jacobians ``(B, C, P)`` where parameters do not covary: ``J diag(variance) J^T``."""
    count, num_outputs, num_params = block.shape
    rows = block.reshape(count * num_outputs, num_params)
    total = np.zeros((len(rows), len(rows)))
    for part in columns_at_once(len(rows), num_params):
        some = rows[:, part].astype(np.float64)
        total += (some * variance[part]) @ some.T
    return total.reshape(count, num_outputs, count, num_outputs)


def from_diagonal_layer(variance: Array, block: Array) -> Array:
    """From layer inputs ``(B, D')`` and variances ``(C, D')`` where nothing covaries."""
    count, width = block.shape
    num_outputs = len(variance)
    covariance = np.zeros((count, num_outputs, count, num_outputs))
    for part in columns_at_once(count, width):
        some = block[:, part].astype(np.float64)
        for output in range(num_outputs):
            covariance[:, output, :, output] += (some * variance[output, part]) @ some.T
    return covariance


def columns_at_once(rows: int, columns: int) -> list[slice]:
    """Columns of a matrix of so many rows whose Gram matrix is a product without a long silence."""
    step = max(1, min(_NUMBERS_AT_ONCE // max(rows, 1), _rows_at_once(rows**2)))
    return [slice(start, start + step) for start in range(0, columns, step)]


def _rows_at_once(products: int) -> int:
    return max(1, int(_FLOPS_AT_ONCE / 2 / max(products, 1)))


def _pairs_at_once(width: int) -> int:
    return max(1, min(_PAIRS_AT_ONCE, _NUMBERS_AT_ONCE // width))


def rows_bytes(edge: int, num_params: int) -> int:
    """Bytes that `from_rows` takes for `edge` outputs of all points together."""
    return 8 * edge**2 + (4 + 8) * edge * num_params


def diagonal_bytes(edge: int, num_params: int) -> int:
    """Bytes that `from_diagonal` takes."""
    return 2 * 8 * edge**2 + 4 * edge * num_params + 8 * num_params + 16 * _NUMBERS_AT_ONCE


def diagonal_layer_bytes(points: int, num_outputs: int, num_params: int) -> int:
    """Bytes that `from_diagonal_layer` takes."""
    inputs = 4 * points * (num_params // num_outputs)
    result = 8 * (points * num_outputs) ** 2 + 8 * points**2
    return result + inputs + 8 * num_params + 16 * _NUMBERS_AT_ONCE


def variances_bytes(points: int, num_outputs: int, num_params: int) -> int:
    """Bytes that `from_variances` takes: the result, indices of pairs, and layer inputs.

    Of the pairs at once there are two arrays, what is added, or the sum with the core's copy, and
    beside them what a product works in.
    """
    width = num_params // num_outputs
    pairs = points * (points - 1) // 2
    some = min(_pairs_at_once(width), pairs)
    inputs = (4 + 8) * points * width + 9 * 8 * some * width // 4
    return 8 * (points * num_outputs) ** 2 + 2 * 8 * pairs + inputs


def covariance_bytes(points: int, num_outputs: int, num_params: int) -> int:
    """Bytes that `from_covariance` takes."""
    width = num_params // num_outputs
    some = min(points, _rows_at_once(num_params * max(width, points)))
    result = 8 * (points * num_outputs) ** 2
    return result + 12 * points * width + 8 * some * (num_params + 2 * points * num_outputs)
