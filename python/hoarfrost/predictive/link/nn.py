"""The link "nn": samples of the weights, which go through the network itself."""

from __future__ import annotations

from typing import ClassVar

from hoarfrost.errors import InternalError
from hoarfrost.likelihood import Likelihood
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link.base import Draws, Needs, Quantity
from hoarfrost.types import Array


class ThroughNetwork:
    """A mixture over the network's own outputs, for any likelihood."""

    name: ClassVar[str] = "nn"
    needs: ClassVar[Needs] = "weights"
    samples: ClassVar[bool] = True

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """For everything."""
        return True

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """Never called: there are no Gaussian outputs here."""
        raise InternalError("the link 'nn' was given Gaussian outputs")
