"""Posteriors behind Fortuna's interface: one folder a method."""

from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.laplace import (
    LaplacePosterior,
    LaplacePosteriorApproximator,
    LaplaceState,
)
from hoarfrost.prob_model.posterior.map import MAPPosterior, MAPPosteriorApproximator
from hoarfrost.prob_model.state import JointState, PosteriorState

__all__ = [
    "JointState",
    "LaplacePosterior",
    "LaplacePosteriorApproximator",
    "LaplaceState",
    "MAPPosterior",
    "MAPPosteriorApproximator",
    "Posterior",
    "PosteriorState",
]
