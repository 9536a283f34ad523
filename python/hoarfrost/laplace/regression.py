"""A prediction of real targets: its mean, and its variance in two parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hoarfrost.errors import InvalidArgumentError

# The likelihoods whose targets are Gaussian where the outputs are known.
_GAUSSIAN = ("gaussian", "heteroscedastic_gaussian")


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

    mean: np.ndarray
    epistemic_variance: np.ndarray
    noise_variance: np.ndarray
    likelihood: str = field(default="gaussian", repr=False)

    @property
    def variance(self) -> np.ndarray:
        """Variance of the targets: both parts together, shape ``(B, D)``."""
        return self.epistemic_variance + self.noise_variance

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the targets, shape ``(B, D)``."""
        return np.sqrt(self.variance)

    def quantile(self, q: Any) -> np.ndarray:
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
        levels = np.asarray(q, dtype=np.float64)
        if levels.ndim > 1 or levels.size == 0 or not np.all((levels > 0) & (levels < 1)):
            raise InvalidArgumentError(
                f"q is {q!r}; give a number between 0 and 1, both excluded, or several"
            )
        if self.likelihood not in _GAUSSIAN:
            raise InvalidArgumentError(
                f"the {self.likelihood} likelihood's targets are not Gaussian, so that mean and "
                "variance do not give quantiles; draw from posterior.sample(...)"
            )
        scores = np.asarray(_normal_quantile(levels)).astype(self.mean.dtype)
        result: np.ndarray = self.mean + scores[..., None, None] * self.std
        return result

    def credible_interval(
        self, error: float = 0.05, interval_type: str = "two-tailed"
    ) -> tuple[np.ndarray, np.ndarray]:
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
        number = isinstance(error, int | float | np.floating) and not isinstance(error, bool)
        if not number or not 0 < error < 1:
            raise InvalidArgumentError(f"error is {error!r}; give a number between 0 and 1")
        if interval_type == "two-tailed":
            lower, upper = self.quantile((error / 2, 1 - error / 2))
            return lower, upper
        if interval_type == "left-tailed":
            return self.quantile(error), np.full_like(self.mean, np.inf)
        if interval_type == "right-tailed":
            return np.full_like(self.mean, -np.inf), self.quantile(1 - error)
        raise InvalidArgumentError(
            f"interval_type is {interval_type!r}; give 'two-tailed', 'left-tailed' or "
            "'right-tailed'"
        )


def _normal_quantile(levels: np.ndarray) -> np.ndarray:
    from statistics import NormalDist

    return np.vectorize(NormalDist().inv_cdf)(levels)
