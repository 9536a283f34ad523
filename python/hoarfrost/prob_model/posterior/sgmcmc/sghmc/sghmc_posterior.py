"""Stochastic-gradient Hamiltonian Monte Carlo as the posterior of a model."""

from __future__ import annotations

from hoarfrost.methods.chain_run import ChainPlan
from hoarfrost.methods.sghmc import sghmc_plan
from hoarfrost.prob_model.posterior.sgmcmc.sgmcmc_posterior import SGMCMCPosterior
from hoarfrost.prob_model.posterior.weight_state import storage_of


class SGHMCPosterior(SGMCMCPosterior):
    """Samples of `hoarfrost.methods.sample_sghmc`."""

    name = "sghmc"
    said = "SGHMC"
    storage = storage_of("sghmc")

    def plan(self, num_steps: int) -> ChainPlan:
        """As many steps as its samples need."""
        own = self.approximator
        return sghmc_plan(
            own.n_samples,
            own.n_thinning,
            own.burnin_length,
            own.momentum_decay,
            own.step_schedule,
            own.preconditioner,
        )
