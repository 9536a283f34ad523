"""The simplest posterior: a point mass at the maximum a posteriori."""

from hoarfrost.prob_model.posterior.map.map_approximator import MAPPosteriorApproximator
from hoarfrost.prob_model.posterior.map.map_posterior import MAPPosterior

__all__ = ["MAPPosterior", "MAPPosteriorApproximator"]
