"""Mean-field variational inference as the posterior of a model."""

from __future__ import annotations

from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.advi import advi_on
from hoarfrost.prob_model.posterior.weight_posterior import MethodPosterior, Run
from hoarfrost.prob_model.posterior.weight_state import storage_of


class ADVIPosterior(MethodPosterior):
    """`hoarfrost.methods.fit_advi` from the networks' initial parameters, or from a MAP."""

    name = "advi"
    said = "ADVI"
    storage = storage_of("advi")

    def approximate(self, run: Run) -> WeightPosterior:
        """Fit the posterior."""
        own = self.approximator
        return advi_on(
            run.problem,
            std_init_params=own.std_init_params,
            log_std_base=own.log_std_base,
            n_loss_samples=own.n_loss_samples,
            **run.climbing,
        )
