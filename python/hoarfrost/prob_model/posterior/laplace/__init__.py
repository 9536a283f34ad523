"""The Laplace posterior behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.laplace.laplace_approximator import LaplacePosteriorApproximator
from hoarfrost.prob_model.posterior.laplace.laplace_posterior import LaplacePosterior
from hoarfrost.prob_model.posterior.laplace.laplace_state import LaplaceState

__all__ = ["LaplacePosterior", "LaplacePosteriorApproximator", "LaplaceState"]
