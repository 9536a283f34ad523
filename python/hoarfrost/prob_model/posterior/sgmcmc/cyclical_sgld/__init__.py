"""Cyclical Langevin dynamics behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.sgmcmc.cyclical_sgld.cyclical_sgld_approximator import (
    CyclicalSGLDPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.sgmcmc.cyclical_sgld.cyclical_sgld_posterior import (
    CyclicalSGLDPosterior,
)

__all__ = ["CyclicalSGLDPosterior", "CyclicalSGLDPosteriorApproximator"]
