"""The exact answer under Gaussian outputs, where there is one; a user asks for it by no name."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hoarfrost.likelihood import Classification, Likelihood, MarginalDensity, Regression
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link.base import Draws, Needs, Quantity
from hoarfrost.types import Array


class ClosedMoments:
    """Moments of numbers, as the likelihood knows them."""

    name: ClassVar[str] = "closed"
    needs: ClassVar[Needs] = "variance"
    samples: ClassVar[bool] = False

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """For moments of numbers."""
        numbers = isinstance(likelihood, Regression) and not isinstance(likelihood, Classification)
        return numbers and quantity == "moments"

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """Mean, variance of the mean, and noise, ``(3, B, D)``."""
        assert isinstance(likelihood, Regression)
        return np.stack(likelihood.target_moments(outputs.mean, outputs.known_variance))


class ClosedDensity:
    """The density of numbers, as the likelihood knows it."""

    name: ClassVar[str] = "closed"
    needs: ClassVar[Needs] = "covariance"
    samples: ClassVar[bool] = False

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """For densities under Gaussian noise."""
        return isinstance(likelihood, MarginalDensity) and quantity == "density"

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """Log-density of each target, ``(B,)``."""
        assert isinstance(likelihood, MarginalDensity) and outputs.targets is not None
        mean = outputs.mean.astype(np.float64)
        return likelihood.marginal_log_prob(mean, outputs.known_covariance, outputs.targets)
