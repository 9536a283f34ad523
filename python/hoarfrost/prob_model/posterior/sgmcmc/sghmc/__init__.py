"""Stochastic-gradient Hamiltonian Monte Carlo behind Fortuna's interface."""

from hoarfrost.prob_model.posterior.sgmcmc.sghmc.sghmc_approximator import (
    SGHMCPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.sgmcmc.sghmc.sghmc_posterior import SGHMCPosterior

__all__ = ["SGHMCPosterior", "SGHMCPosteriorApproximator"]
