"""The mean of the targets under a Laplace posterior, and their variance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hoarfrost.curvature.stream import Piece, input_batches
from hoarfrost.laplace import links
from hoarfrost.laplace.mixtures import LogProbabilities, Mean, Moments
from hoarfrost.laplace.regression import RegressionPrediction
from hoarfrost.laplace.sampled import linearised_samples, network_samples

if TYPE_CHECKING:
    from hoarfrost.laplace.posterior import Laplace

Tree = Any


def log_probabilities(
    laplace: Laplace,
    inputs: Tree,
    link: str,
    n_samples: int,
    seed: int,
    *,
    temperature: float = 1.0,
) -> np.ndarray:
    """Log-probabilities of the classes (of a 1, for Bernoulli outputs), shape ``(B, C)``.

    Logits are divided by `temperature`, which needs a link in closed form.
    """
    if link in ("mc", "nn"):
        statistic = LogProbabilities(laplace.linearised.likelihood)
        return _by_samples(laplace, inputs, link, statistic, n_samples, seed)
    found = [
        closed_form(laplace, piece, link, temperature).astype(piece.outputs.dtype)
        for piece in laplace.linearised.walk(inputs)
    ]
    return np.concatenate(found)


def mean_of_targets(
    laplace: Laplace, inputs: Tree, link: str, n_samples: int, seed: int
) -> np.ndarray:
    """Mean of the targets by samples, whatever the likelihood, shape ``(B, D)``."""
    statistic = Mean(laplace.linearised.likelihood)
    return _by_samples(laplace, inputs, link, statistic, n_samples, seed)


def moments_of_targets(
    laplace: Laplace, inputs: Tree, link: str, n_samples: int, seed: int
) -> RegressionPrediction:
    """Mean and both variances of the targets, each ``(B, D)``."""
    likelihood: Any = laplace.linearised.likelihood
    if link == "nn":
        statistic, batches = Moments(likelihood), input_batches(inputs)
        mean, epistemic, noise = network_samples(
            laplace, batches, statistic, n_samples, seed, axis=1
        )
        return RegressionPrediction(mean, epistemic, noise, likelihood.name)
    moments = []
    for piece in laplace.linearised.walk(inputs):
        variance = laplace.factor.functional_variance(piece.block)
        found = likelihood.target_moments(piece.outputs, variance)
        moments.append([part.astype(piece.outputs.dtype, copy=False) for part in found])
    mean, epistemic, noise = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    return RegressionPrediction(mean, epistemic, noise, likelihood.name)


def closed_form(laplace: Laplace, piece: Piece, link: str, temperature: float = 1.0) -> np.ndarray:
    """Log-probabilities of a piece's points by "probit" or "bridge", ``(B, C)``, float64."""
    outputs = piece.outputs.astype(np.float64) / temperature
    if link == "bridge":
        covariance = laplace.factor.functional_covariance(piece.block) / temperature**2
        return links.bridge(outputs, covariance)
    variance = laplace.factor.functional_variance(piece.block) / temperature**2
    return links.probit(laplace.linearised.likelihood, outputs, variance)


def _by_samples(
    laplace: Laplace, inputs: Tree, link: str, statistic: Any, n_samples: int, seed: int
) -> np.ndarray:
    if link == "nn":
        return network_samples(laplace, input_batches(inputs), statistic, n_samples, seed)
    pieces = laplace.linearised.walk(inputs)
    return linearised_samples(laplace, pieces, statistic, n_samples, seed)
