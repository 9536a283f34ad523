"""Posteriors behind Fortuna's interface: one file a method."""

from hoarfrost.prob_model.posterior.approximator import (
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.laplace import LaplacePosterior
from hoarfrost.prob_model.posterior.map import MAPPosterior
from hoarfrost.prob_model.state import JointState, PosteriorState

__all__ = [
    "JointState",
    "LaplacePosterior",
    "LaplacePosteriorApproximator",
    "MAPPosterior",
    "MAPPosteriorApproximator",
    "Posterior",
    "PosteriorState",
]
