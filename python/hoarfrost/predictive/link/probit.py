"""The link "probit": logits shrunk by their own variance.

``f_c / sqrt(1 + pi / 8 V_cc)`` goes through the softmax or the sigmoid (MacKay, 1992). Everything
is in float64 and in logarithms, so that logits of 1e4 give log-probabilities and not an infinity.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hoarfrost.likelihood import Classification, Likelihood
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link.base import Draws, Needs, Quantity
from hoarfrost.types import Array


class Probit:
    """Shrunk logits of classes, or of yes or no."""

    name: ClassVar[str] = "probit"
    needs: ClassVar[Needs] = "variance"
    samples: ClassVar[bool] = False

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """For classes."""
        return isinstance(likelihood, Classification) and quantity in ("probabilities", "density")

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """Log-probabilities ``(B, C)``, or that of each target ``(B,)``."""
        assert isinstance(likelihood, Classification)
        if quantity == "probabilities":
            return probit(likelihood, outputs.mean, outputs.known_variance)
        assert outputs.targets is not None
        logits = shrunk(outputs.mean, outputs.known_variance)
        return likelihood.host_log_prob(logits, outputs.targets)


def probit(likelihood: Classification, outputs: Array, variance: Array) -> Array:
    """Log-probabilities by the probit approximation.

    Parameters
    ----------
    outputs, variance : ndarray
        Means and variances of the outputs, shape ``(B, C)``.

    Returns
    -------
    ndarray
        Shape ``(B, C)``, float64; for yes or no, of a 1.
    """
    return likelihood.host_log_probs(shrunk(outputs, variance))


def shrunk(outputs: Array, variance: Array) -> Array:
    """Logits as the probit link shrinks them, shape ``(B, C)``, float64."""
    result: Array = outputs.astype(np.float64) / np.sqrt(1 + np.pi / 8 * variance)
    return result
