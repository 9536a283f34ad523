"""Covariance of the outputs at different inputs with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hoarfrost.curvature.stream import input_batches
from hoarfrost.laplace.plan import check_room

if TYPE_CHECKING:
    from hoarfrost.laplace.posterior import Laplace

Tree = Any

# Pairs of points whose summed layer inputs are made at once.
_PAIRS_AT_ONCE = 4096


def joint_covariance(laplace: Laplace, inputs: Tree) -> np.ndarray:
    """``J Sigma J^T`` over all points together, shape ``(B, C, B, C)``, float64.

    Raises
    ------
    MemoryLimitError
        If it does not fit.
    """
    linearised = laplace.linearised
    points = sum(batch.size for batch in input_batches(inputs))
    apart = linearised.likelihood.head == "independent" or laplace.hessian_structure == "diag"
    _check_memory(laplace, points, apart)
    block = np.concatenate([piece.block for piece in linearised.walk(inputs)])
    if linearised.head is None:
        # To the core, one point with B C outputs.
        count, num_outputs, num_params = block.shape
        rows = block.reshape(1, count * num_outputs, num_params)
        together = laplace.factor.functional_covariance(rows)
        return together.reshape(count, num_outputs, count, num_outputs)
    if apart:
        return _independent_outputs(laplace, block)
    return _dependent_outputs(laplace, block)


def _independent_outputs(laplace: Laplace, features: np.ndarray) -> np.ndarray:
    """From variances alone: ``2 a^T S b = (a + b)^T S (a + b) - a^T S a - b^T S b``.

    Each output has a symmetric covariance ``S`` of its own, so nothing of size ``P^2`` is needed.
    """
    features = features.astype(np.float64)
    count, num_outputs = len(features), laplace.linearised.num_outputs
    variance = laplace.factor.functional_variance(features)
    covariance = np.zeros((count, num_outputs, count, num_outputs))
    index = np.arange(num_outputs)
    first, second = np.triu_indices(count, 1)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        a, b = first[start : start + _PAIRS_AT_ONCE], second[start : start + _PAIRS_AT_ONCE]
        of_sum = laplace.factor.functional_variance(features[a] + features[b])
        pairs = (of_sum - variance[a] - variance[b]) / 2
        covariance[a[:, None], index, b[:, None], index] = pairs
        covariance[b[:, None], index, a[:, None], index] = pairs
    points = np.arange(count)[:, None]
    covariance[points, index, points, index] = variance
    return covariance


def _dependent_outputs(laplace: Laplace, features: np.ndarray) -> np.ndarray:
    """From the whole covariance of a softmax head, outputs by features."""
    features = features.astype(np.float64)
    num_outputs, num_features = laplace.linearised.num_outputs, features.shape[1]
    order = laplace.factor.order
    sigma = laplace.factor.covariance()[np.ix_(order, order)]
    sigma = sigma.reshape(num_outputs, num_features, num_outputs, num_features)
    half = np.einsum("cidj,mj->cidm", sigma, features, optimize=True)
    result: np.ndarray = np.einsum("ni,cidm->ncmd", features, half, optimize=True)
    return result


def _check_memory(laplace: Laplace, points: int, apart: bool) -> None:
    num_params, num_outputs = laplace.num_params, laplace.linearised.num_outputs
    edge = points * num_outputs
    needed = 2 * 8 * edge**2
    if laplace.linearised.head is None:
        needed += 2 * 8 * edge * num_params
    elif not apart:
        needed += 2 * 8 * num_params**2 + 8 * edge * num_params
    check_room(
        f"the joint covariance of {num_outputs} outputs at {points:,} inputs, with what it is made "
        "from,",
        needed,
        "give fewer inputs at once, or leave out joint=True",
    )
