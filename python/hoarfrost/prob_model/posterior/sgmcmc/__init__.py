"""Stochastic-gradient Markov chains behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.sgmcmc.cyclical_sgld import (
    CyclicalSGLDPosterior,
    CyclicalSGLDPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.sgmcmc.sghmc import (
    SGHMCPosterior,
    SGHMCPosteriorApproximator,
)

__all__ = [
    "CyclicalSGLDPosterior",
    "CyclicalSGLDPosteriorApproximator",
    "SGHMCPosterior",
    "SGHMCPosteriorApproximator",
]
