"""The link "bridge": the Dirichlet that a Gaussian over logits maps to.

MacKay (1998); Hobbhahn et al. (2022), Fast predictive uncertainty for classification with Bayesian
deep networks. Everything is in float64 and in logarithms.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hoarfrost.likelihood import Classification, Likelihood
from hoarfrost.likelihood.logits import log_sum_exp
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link.base import Draws, Needs, Quantity
from hoarfrost.types import Array


class Bridge:
    """The mean of a Dirichlet over classes."""

    name: ClassVar[str] = "bridge"
    needs: ClassVar[Needs] = "covariance"
    samples: ClassVar[bool] = False

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """For one of several classes."""
        softmax = isinstance(likelihood, Classification) and likelihood.head == "softmax"
        return softmax and quantity in ("probabilities", "density")

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """Log-probabilities ``(B, C)``, or that of each target ``(B,)``."""
        log_p = bridge(outputs.mean, outputs.known_covariance)
        if quantity == "probabilities":
            return log_p
        assert outputs.targets is not None
        classes = outputs.targets.astype(np.int64)[:, None]
        chosen: Array = np.take_along_axis(log_p, classes, axis=1)[:, 0]
        return chosen


def bridge(outputs: Array, covariance: Array) -> Array:
    """Log-probabilities by the Laplace bridge: the mean of the Dirichlet that it leads to.

    Parameters
    ----------
    outputs : ndarray
        Means of the logits, shape ``(B, C)``.
    covariance : ndarray
        Their covariances, shape ``(B, C, C)``.

    Returns
    -------
    ndarray
        Shape ``(B, C)``, float64.
    """
    log_alpha = log_concentration(outputs, covariance)
    return log_alpha - log_sum_exp(log_alpha)


def log_concentration(outputs: Array, covariance: Array) -> Array:
    """Logarithms of the concentrations of the Laplace bridge's Dirichlet, shape ``(B, C)``.

    ``alpha_c = (1 - 2 / C + exp(f_c) / C^2 sum_d exp(-f_d)) / V_cc``, after logits have been
    conditioned on a sum of zero: a common shift of all logits changes no probability, and the
    bridge is defined without it.
    """
    mean, variance = _without_shift(outputs.astype(np.float64), covariance)
    count = mean.shape[1]
    log_term = mean + log_sum_exp(-mean) - 2 * np.log(count)
    if count > 2:
        log_term = np.logaddexp(np.log1p(-2 / count), log_term)
    # A variance of zero is certainty: the least positive one keeps the ratios finite.
    return log_term - np.log(np.maximum(variance, np.finfo(np.float64).tiny))


def _without_shift(mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Mean and variances of Gaussian logits, given that they add up to zero."""
    with_sum = covariance.sum(axis=2)
    total = with_sum.sum(axis=1, keepdims=True)
    # A sum that never varies is taken off as it is.
    gain = np.where(total > 0, with_sum / np.where(total > 0, total, 1), 1 / mean.shape[1])
    centred = mean - gain * mean.sum(axis=1, keepdims=True)
    return centred, np.einsum("bcc->bc", covariance) - gain * with_sum
