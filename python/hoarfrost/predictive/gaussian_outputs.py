"""Outputs that are Gaussian, as those of a linearised network are, and draws of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoarfrost.errors import InternalError
from hoarfrost.types import Array

# Points that share a random stream. Fixed, so that a point's draws depend on nothing but the seed
# and its index, however the inputs are cut into pieces.
_POINTS_PER_STREAM = 64


@dataclass(frozen=True, eq=False)
class GaussianOutputs:
    """The distribution of the outputs of some points.

    Attributes
    ----------
    mean : ndarray
        Shape ``(B, C)``.
    dtype : numpy.dtype
        Of the network's outputs, in which predictions are given.
    variance : ndarray or None
        Of each output, ``(B, C)``, float64, where it was asked for.
    covariance : ndarray or None
        Of the outputs of a point, ``(B, C, C)``, float64, where it was asked for.
    targets : ndarray or None
        Of the points, where there are any.
    start : int
        Index of the first of these points among all points.
    """

    mean: Array
    dtype: Any
    variance: Array | None = None
    covariance: Array | None = None
    targets: Array | None = None
    start: int = 0

    @property
    def known_variance(self) -> Array:
        """The variance, of outputs for which it was asked."""
        assert self.variance is not None
        return self.variance

    @property
    def known_covariance(self) -> Array:
        """The covariance, of outputs for which it was asked."""
        assert self.covariance is not None
        return self.covariance

    def spread(self, temperature: float) -> GaussianOutputs:
        """With the covariance multiplied by a number."""
        return dataclasses.replace(
            self,
            variance=None if self.variance is None else self.variance * temperature,
            covariance=None if self.covariance is None else self.covariance * temperature,
        )

    def divided(self, temperature: float) -> GaussianOutputs:
        """The distribution of the outputs divided by a number."""
        squared = temperature**2
        return dataclasses.replace(
            self,
            mean=self.mean.astype(np.float64) / temperature,
            variance=None if self.variance is None else self.variance / squared,
            covariance=None if self.covariance is None else self.covariance / squared,
        )


def draw_outputs(outputs: Array, covariance: Array, seed: int, start: int, n_samples: int) -> Array:
    """Samples ``f + V^1/2 z`` of the linearised network's outputs.

    Parameters
    ----------
    outputs : ndarray
        Means of the outputs, shape ``(B, C)``.
    covariance : ndarray
        Their covariances, shape ``(B, C, C)``, float64.
    seed, start, n_samples : int
        Of the draws; `start` is the index of the first of these points among all points.

    Returns
    -------
    ndarray
        Shape ``(S, B, C)``, in the dtype of `outputs`.
    """
    count, num_outputs = outputs.shape
    noise = point_noise(seed, start, count, n_samples, num_outputs)
    samples = noise @ covariance_root(covariance).swapaxes(1, 2)
    samples += outputs[:, None, :]
    return samples.swapaxes(0, 1).astype(outputs.dtype, copy=False)


def covariance_root(covariance: Array) -> Array:
    """Lower roots ``L L^T`` of positive semi-definite matrices, shape ``(B, C, C)``.

    A functional covariance may be singular, and rounding may leave it slightly indefinite. Scaled
    to a unit diagonal, a Cholesky factorisation then needs about ``C^2`` units of rounding on the
    diagonal; a multiple of that is added, which adds less than 1e-4 of each standard deviation
    for any C below 1,000. A matrix with a larger error gets a hundred times as much until it
    factors; each matrix is treated on its own, whatever comes with it.
    """
    num_outputs = covariance.shape[1]
    scale = np.sqrt(np.maximum(np.einsum("bcc->bc", covariance), 0))
    divisor = np.where(scale > 0, scale, 1.0)
    correlation = covariance / (divisor[:, :, None] * divisor[:, None, :])
    jitter = 8 * num_outputs * (num_outputs + 1) * float(np.finfo(np.float64).eps)
    root: Array = scale[:, :, None] * _jittered_cholesky(correlation, jitter)
    return root


def _jittered_cholesky(correlation: Array, jitter: float) -> Array:
    index = np.arange(correlation.shape[1])
    correlation[:, index, index] = 1 + jitter
    try:
        return np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        if len(correlation) > 1:
            single = (_jittered_cholesky(matrix[None], jitter) for matrix in correlation)
            return np.concatenate(list(single))
        if jitter > correlation.shape[1]:
            raise InternalError("a functional covariance is not a covariance") from None
        return _jittered_cholesky(correlation, 100 * jitter)


def point_noise(seed: int, start: int, count: int, n_samples: int, num_outputs: int) -> Array:
    """Standard normal draws of the points ``start .. start + count - 1``.

    Shape ``(count, n_samples, num_outputs)``, float64; a point's draws are a function of the seed
    and its index alone.
    """
    per_point = n_samples * num_outputs
    noise = np.empty((count, per_point))
    stop = start + count
    for stream in range(start // _POINTS_PER_STREAM, -(-stop // _POINTS_PER_STREAM)):
        first = stream * _POINTS_PER_STREAM
        low, high = max(start, first), min(stop, first + _POINTS_PER_STREAM)
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, stream))))
        drawn = generator.standard_normal((high - first, per_point))
        noise[low - start : high - start] = drawn[low - first :]
    return noise.reshape(count, n_samples, num_outputs)
