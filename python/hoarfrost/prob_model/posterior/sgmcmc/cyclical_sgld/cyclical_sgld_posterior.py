"""Cyclical Langevin dynamics as the posterior of a model."""

from __future__ import annotations

from hoarfrost.methods.chain_run import ChainPlan
from hoarfrost.methods.cyclical_sgld import cyclical_plan
from hoarfrost.prob_model.posterior.sgmcmc.sgmcmc_posterior import SGMCMCPosterior
from hoarfrost.prob_model.posterior.weight_state import storage_of


class CyclicalSGLDPosterior(SGMCMCPosterior):
    """Samples of `hoarfrost.methods.sample_cyclical_sgld`, from all cycles that there are."""

    name = "cyclical_sgld"
    said = "cyclical SGLD"
    storage = storage_of("cyclical_sgld")

    def plan(self, num_steps: int) -> ChainPlan:
        """So many steps, in whole cycles."""
        own = self.approximator
        return cyclical_plan(
            own.n_samples,
            own.n_thinning,
            own.cycle_length,
            own.init_step_size,
            own.exploration_ratio,
            own.preconditioner,
            num_steps,
        )
