"""Markov chains as the posterior of a model."""

from __future__ import annotations

from abc import abstractmethod

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.ascent import member_batches
from hoarfrost.methods.chain_run import ChainPlan
from hoarfrost.methods.chains import sample_chains
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.posterior.map_fit import Status
from hoarfrost.prob_model.posterior.weight_posterior import MethodPosterior, Run


class SGMCMCPosterior(MethodPosterior):
    """Samples of one chain, which starts at a MAP or at the networks' initial parameters.

    `fit_config.optimizer.n_epochs` says how many steps it may make, with those that a batch is.
    """

    uses = ("monitor.verbose",)

    @abstractmethod
    def plan(self, num_steps: int) -> ChainPlan:
        """What the chain does in so many steps."""

    def check(self, config: FitConfig, train: DataLoader) -> None:
        """Fewer steps than the samples need are an error."""
        self._plan(config.optimizer.n_epochs, len(train))

    def approximate(self, run: Run) -> WeightPosterior:
        """Fit the posterior."""
        batches = member_batches(run.problem, run.key, 1)
        # Where no point of a batch counts, there are fewer steps than batches.
        plan = self._plan(run.n_epochs, batches.per_epoch)
        return sample_chains(run.problem, plan, run.key, 1, batches=batches)

    def _plan(self, n_epochs: int, per_epoch: int) -> ChainPlan:
        plan = self.plan(n_epochs * per_epoch)
        steps = plan.keep[-1]
        if steps > n_epochs * per_epoch:
            raise InvalidArgumentError(
                f"fit_config.optimizer.n_epochs is {n_epochs}, which are "
                f"{n_epochs * per_epoch} steps of {per_epoch} batches, and "
                f"{self.said} needs {steps} for its samples; give {-(-steps // per_epoch)} epochs, "
                "or fewer samples, less thinning or a shorter burn-in"
            )
        return plan

    def recorded(self, status: Status, found: dict[str, object]) -> None:
        """With what a chain has no use for."""
        status[self.name] = {**found, "not_used": ("fit_config.optimizer.method",)}
