"""SNGP behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.sngp.sngp_approximator import SNGPPosteriorApproximator
from hoarfrost.prob_model.posterior.sngp.sngp_posterior import SNGPPosterior

__all__ = ["SNGPPosterior", "SNGPPosteriorApproximator"]
