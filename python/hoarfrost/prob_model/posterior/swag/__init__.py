"""SWAG behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.swag.swag_approximator import SWAGPosteriorApproximator
from hoarfrost.prob_model.posterior.swag.swag_posterior import SWAGPosterior

__all__ = ["SWAGPosterior", "SWAGPosteriorApproximator"]
