"""A deep ensemble as the posterior of a model."""

from __future__ import annotations

import jax

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Partition
from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.ensemble import ensemble_on, members_from
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.posterior.start import first_inputs
from hoarfrost.prob_model.posterior.weight_posterior import MethodPosterior, Run
from hoarfrost.prob_model.posterior.weight_state import storage_of
from hoarfrost.types import Tree


class DeepEnsemblePosterior(MethodPosterior):
    """`hoarfrost.methods.fit_ensemble`: the trainable parameters of each member start anew.

    A MAP, or what else the fit starts from, gives the frozen ones.
    """

    name = "deep_ensemble"
    said = "a deep ensemble"
    storage = storage_of("deep_ensemble")

    def check(self, config: FitConfig, train: DataLoader) -> None:
        """Networks whose initial values nothing draws are an error."""
        if not self.joint.starts_anew:
            raise InvalidArgumentError(
                "posterior_approximator is a deep ensemble, whose members start from parameters "
                "of their own, and model is an NNX module, which does not say how it was made; "
                "give a function or class that makes one of rngs"
            )

    def map_is_idle(self, partition: Partition) -> str:
        """It is of use for what is frozen."""
        if not partition.all_trainable:
            return ""
        return "all of whose parameters are trainable, so that each member starts anew"

    def approximate(self, run: Run) -> WeightPosterior:
        """Fit the posterior."""
        inputs = first_inputs(run.problem.data)

        def anew(key: jax.Array) -> Tree:
            return self.joint.init(inputs, key).params

        return ensemble_on(
            run.problem,
            ensemble_size=self.approximator.ensemble_size,
            begin=lambda members: members_from(run.problem, anew, run.key, members),
            **run.climbing,
        )
