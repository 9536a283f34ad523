"""SWAG as the posterior of a model."""

from __future__ import annotations

from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.swag import check_swag, swag_on
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.posterior.weight_posterior import MethodPosterior, Run
from hoarfrost.prob_model.posterior.weight_state import storage_of


class SWAGPosterior(MethodPosterior):
    """`hoarfrost.methods.fit_swag` from trained parameters on.

    Statistics of BatchNorm in trained layers are found anew under each draw, by the data; a
    posterior that comes back from the disk has those of the mean for all draws.
    """

    name = "swag"
    said = "SWAG"
    storage = storage_of("swag")
    needs_start = True

    def check(self, config: FitConfig) -> None:
        """Fewer epochs than iterates are needed for the rank are an error."""
        check_swag(self.approximator.rank, config.optimizer.n_epochs)

    def approximate(self, run: Run) -> WeightPosterior:
        """Fit the posterior."""
        return swag_on(run.problem, rank=self.approximator.rank, **run.climbing)
