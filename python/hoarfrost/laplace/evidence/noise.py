"""Gaussian noise after the fit: what the data say about it is one sum of squares an output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoarfrost.errors import ShapeError
from hoarfrost.likelihood import sound_noise
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class Residuals:
    """Sums of squared residuals at the mean.

    Attributes
    ----------
    num_data : int
        ``N``.
    squares : ndarray
        ``sum_n (y_nc - f_nc)^2``, shape ``(C,)``, float64.
    noise_precision : ndarray
        ``1 / std^2`` with which the curvature was assembled, shape ``(C,)``.
    """

    num_data: int
    squares: Array
    noise_precision: Array

    def log_likelihood(self, noise_precision: Array) -> float:
        """Of all data under other noise, constants included."""
        log_normaliser = self.num_data * np.log(noise_precision / (2 * math.pi))
        return float(0.5 * np.sum(log_normaliser - noise_precision * self.squares))

    def scale(self, noise_precision: Array) -> Array:
        """What the curvature is multiplied by under other noise, shape ``(C,)``."""
        return noise_precision / self.noise_precision

    def noise_precision_of(self, noise_std: float | Sequence[float]) -> Array:
        """``1 / std^2`` of each output, shape ``(C,)``.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If it is not a positive number, or one for each output.
        """
        values = sound_noise(noise_std)
        if values.ndim == 1 and values.shape != self.squares.shape:
            raise ShapeError(
                f"noise_std holds {values.size} numbers but the network has {self.squares.size} "
                "outputs; give one number, or one for each output"
            )
        return np.broadcast_to(values**-2.0, self.squares.shape).copy()


def best_noise_precision(num_data: float, squares: Array, eigenvalues: Array) -> Array:
    """The noise precision of each output that maximises the evidence under a fixed prior.

    With ``s`` the eigenvalues of the Gram matrix in the metric of the prior, the evidence in
    ``log w`` is concave, with the derivative ``N - w RSS - sum_k w s_k / (w s_k + 1)`` (twice):
    bisection between bounds, then as many halvings as float64 has digits.
    """
    low = np.full(squares.shape, math.log(SMALLEST_PRECISION))
    high = np.full(squares.shape, math.log(LARGEST_PRECISION))
    for _ in range(64):
        middle = (low + high) / 2
        weights = np.exp(middle)
        weighted = np.outer(weights, eigenvalues)
        slope = num_data - weights * squares - np.sum(weighted / (weighted + 1), axis=1)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return np.exp((low + high) / 2)


# Bounds of a noise precision: a standard deviation between 1e-8 and 1e8.
SMALLEST_PRECISION, LARGEST_PRECISION = 1e-16, 1e16
