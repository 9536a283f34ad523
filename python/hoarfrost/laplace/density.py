"""The log-density of given targets under a Laplace posterior's predictive distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hoarfrost.curvature.stream import Batch, Piece, data_batches
from hoarfrost.laplace import links
from hoarfrost.laplace.mixtures import TargetLogProb
from hoarfrost.laplace.predict import closed_form
from hoarfrost.laplace.sampled import linearised_samples, network_samples
from hoarfrost.likelihood import Bernoulli, Gaussian

if TYPE_CHECKING:
    from hoarfrost.laplace.posterior import Laplace


def log_prob_of_targets(
    laplace: Laplace, data_loader: Any, link: str, n_samples: int, seed: int
) -> np.ndarray:
    """Log-density of the targets of each point, shape ``(N,)``, in the order of the data."""
    linearised = laplace.linearised
    statistic = TargetLogProb(linearised.likelihood)
    batches = _checked(laplace, data_batches(data_loader))
    if link == "nn":
        return network_samples(laplace, batches, statistic, n_samples, seed)
    pieces = linearised.walk_batches(batches)
    if link == "mc":
        return linearised_samples(laplace, pieces, statistic, n_samples, seed)
    found = [_exact(laplace, piece, link).astype(piece.outputs.dtype) for piece in pieces]
    return np.concatenate(found)


def _exact(laplace: Laplace, piece: Piece, link: str) -> np.ndarray:
    likelihood, targets = laplace.linearised.likelihood, np.asarray(piece.targets)
    if isinstance(likelihood, Gaussian):
        return _gaussian(laplace, piece, targets)
    if isinstance(likelihood, Bernoulli):
        # By the sign of the logit: log p(0) from log p(1) would lose what is near certainty.
        variance = laplace.factor.functional_variance(piece.block)
        logits = links.shrunk(piece.outputs, variance)
        sign = 2 * targets.reshape(logits.shape).astype(np.float64) - 1
        labels: np.ndarray = links.log_sigmoid(sign * logits).sum(axis=1)
        return labels
    classes = targets.astype(np.int64)[:, None]
    chosen: np.ndarray = np.take_along_axis(closed_form(laplace, piece, link), classes, axis=1)
    return chosen[:, 0]


def _gaussian(laplace: Laplace, piece: Piece, targets: np.ndarray) -> np.ndarray:
    """``log N(y; f, V + noise)``, with what the outputs of a point share."""
    outputs = piece.outputs.astype(np.float64)
    covariance = laplace.factor.functional_covariance(piece.block)
    index = np.arange(outputs.shape[1])
    noise = 1 / laplace.linearised.likelihood.head_weights(outputs)
    covariance[:, index, index] += noise
    root = np.linalg.cholesky(covariance)
    residuals = (targets.reshape(outputs.shape).astype(np.float64) - outputs)[:, :, None]
    whitened = np.linalg.solve(root, residuals)[:, :, 0]
    log_det = 2 * np.log(np.einsum("bcc->bc", root)).sum(axis=1)
    result: np.ndarray = -0.5 * (
        np.square(whitened).sum(axis=1) + log_det + outputs.shape[1] * math.log(2 * math.pi)
    )
    return result


def _checked(laplace: Laplace, batches: Iterator[Batch]) -> Iterator[Batch]:
    likelihood, num_outputs = laplace.linearised.likelihood, laplace.linearised.num_outputs
    for batch in batches:
        assert batch.targets is not None  # `data_batches` gives pairs
        likelihood.check_targets(batch.targets, num_outputs, batch.index)
        yield batch
