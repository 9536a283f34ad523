"""A spectral-normalised neural Gaussian process as the posterior of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.freezing import Partition, Subset, make_partition
from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.sngp import sngp_on
from hoarfrost.network.random_features import GP, KERNEL
from hoarfrost.prior import gaussian_prior
from hoarfrost.prob_model.posterior.map_fit import Status
from hoarfrost.prob_model.posterior.weight_posterior import (
    MethodPosterior,
    Run,
    over_trainable,
)
from hoarfrost.prob_model.posterior.weight_state import storage_of
from hoarfrost.types import Path

# Where the output weights stand among the parameters of a model.
_WEIGHTS: Path = ("model", GP, KERNEL)


class SNGPPosterior(MethodPosterior):
    """`hoarfrost.methods.fit_sngp`: the network is trained, the output weights have a posterior.

    `fit_config.optimizer.freeze_fun` says what of the model is trained; the random features are
    not, and the output weights always are.
    """

    name = "sngp"
    said = "SNGP"
    storage = storage_of("sngp", from_map=False)

    def map_is_idle(self, partition: Partition) -> str:
        """The network is trained by the method itself."""
        return "which trains the network by fit_config"

    def trainable_of(self, subset: Subset) -> Partition:
        """The output weights, beside what `freeze_fun` leaves trainable of the model."""
        own = subset.partition.by_path
        weights, gp = _WEIGHTS, _WEIGHTS[:2]
        return make_partition(
            subset.params, lambda path, _: own[path] if path[:2] != gp else path == weights
        )

    def prior_of(self, subset: Subset) -> Any:
        """The model's prior, but for the output weights, whose precision is the ridge penalty."""
        gaussian_prior(self.joint.prior, "an SNGP")
        found: Any = over_trainable(self.joint.prior, subset)
        penalty = float(self.approximator.ridge_penalty)

        def at_weights(tree: Any, value: float) -> Any:
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: jnp.full_like(leaf, value) if _names(path) == _WEIGHTS else leaf,
                tree,
            )

        return replace(
            found,
            mean=at_weights(found.mean, 0.0),
            precision=at_weights(found.precision, penalty),
        )

    def approximate(self, run: Run) -> WeightPosterior:
        """Fit the posterior."""
        settings = self.approximator.settings
        return sngp_on(run.problem, settings, kernel=_WEIGHTS, **run.climbing)

    def recorded(self, status: Status, found: dict[str, Any]) -> None:
        """As Fortuna has it: beside nothing else."""
        status |= found


def _names(path: Any) -> Path:
    return tuple(key.key for key in path)
