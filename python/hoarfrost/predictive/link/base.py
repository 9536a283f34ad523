"""What a link is: from the distribution of the outputs to that of the targets.

Four quantities follow from it, of which a link gives those that it can for a likelihood:
"probabilities" (their logarithms), "moments" (of numbers: the mean, its variance, the noise),
"mean" (of any targets) and "density" (its logarithm, of given targets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from hoarfrost.likelihood import Classification, Likelihood, Regression
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.types import Array

Quantity = Literal["probabilities", "moments", "mean", "density"]

# What a link works from: parts of Gaussian outputs, or samples of the weights.
Needs = Literal["variance", "covariance", "weights"]


@dataclass(frozen=True)
class Draws:
    """Which samples a link that draws any takes, and how many."""

    seed: int
    n_samples: int


class Link(Protocol):
    """A way from outputs to targets; it works in NumPy, in float64 where it is in closed form.

    Attributes
    ----------
    name : str
        By which a user asks for it.
    needs : str
        What it works from.
    samples : bool
        Whether it draws samples.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    samples: ClassVar[bool]

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """Whether it gives this quantity for this likelihood."""

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """The quantity, points along axis 0 ("moments": along axis 1, the three of them first).

        A link that needs the weights is never called: a statistic of the mixture over samples of
        the network's own outputs is all that it is.
        """


def quantity_of(likelihood: Likelihood) -> Quantity:
    """What is predicted of targets by this likelihood."""
    if isinstance(likelihood, Classification):
        return "probabilities"
    return "moments" if isinstance(likelihood, Regression) else "mean"
