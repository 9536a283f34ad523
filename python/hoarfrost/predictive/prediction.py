"""A prediction of real targets: its mean, and its variance in two parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.predictive.quantile import check_levels, interval_levels
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class RegressionPrediction:
    """What a posterior says about the targets at B inputs.

    Attributes
    ----------
    mean : ndarray
        Mean of the targets, shape ``(B, D)``.
    epistemic_variance : ndarray
        Variance of that mean under the posterior: what more data would take away. ``(B, D)``.
    noise_variance : ndarray
        Variance of the targets about it, which remains. ``(B, D)``.
    """

    mean: Array
    epistemic_variance: Array
    noise_variance: Array
    likelihood: str = field(default="gaussian", repr=False)
    gaussian_targets: bool = field(default=True, repr=False)

    @property
    def variance(self) -> Array:
        """Variance of the targets: both parts together, shape ``(B, D)``."""
        return self.epistemic_variance + self.noise_variance

    @property
    def std(self) -> Array:
        """Standard deviation of the targets, shape ``(B, D)``."""
        return np.sqrt(self.variance)

    def quantile(self, q: Any) -> Array:
        """Quantiles of the targets, from a Gaussian with this mean and variance.

        Exact for `Gaussian` noise under the linearised network; with a predicted noise variance it
        is the Gaussian with the same two moments.

        Parameters
        ----------
        q : float or sequence of float
            Levels between 0 and 1, both excluded.

        Returns
        -------
        ndarray
            Shape ``(B, D)`` for a number `q`, ``(len(q), B, D)`` for a sequence.

        Raises
        ------
        InvalidArgumentError
            If a level is out of range, or targets are no Gaussian numbers (counts, say).
        """
        levels, single = check_levels(q)
        if not self.gaussian_targets:
            raise InvalidArgumentError(
                f"the {self.likelihood} likelihood's targets are not Gaussian, so that mean and "
                "variance do not give quantiles; draw from posterior.sample(...)"
            )
        normal = NormalDist()
        scores = np.asarray([normal.inv_cdf(level) for level in levels]).astype(self.mean.dtype)
        found: Array = self.mean + scores.reshape(-1, *(1 for _ in self.mean.shape)) * self.std
        return found[0] if single else found

    def credible_interval(
        self, error: float = 0.05, interval_type: str = "two-tailed"
    ) -> tuple[Array, Array]:
        """Ends of an interval that holds each target with probability ``1 - error``.

        Parameters
        ----------
        error : float
            Probability outside of the interval, between 0 and 1, both excluded.
        interval_type : {"two-tailed", "left-tailed", "right-tailed"}
            Half of the error on either side, or all of it below or above; the other end is then
            infinite.

        Returns
        -------
        lower, upper : ndarray
            Each ``(B, D)``.

        Raises
        ------
        InvalidArgumentError
            If an argument is none of these.
        """
        levels = interval_levels(error, interval_type)
        ends = self.quantile(levels)
        if interval_type == "two-tailed":
            return ends[0], ends[1]
        infinite = np.full_like(self.mean, np.inf)
        return (ends[0], infinite) if interval_type == "left-tailed" else (-infinite, ends[0])
