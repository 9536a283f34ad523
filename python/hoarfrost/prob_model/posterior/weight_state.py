"""The state of a posterior by its draws, and its checkpoints."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import CheckpointError, InvalidArgumentError, SavedFileError
from hoarfrost.methods import WeightPosterior
from hoarfrost.methods.saving import load_posterior
from hoarfrost.predictive.weight_samples import with_own
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.checkpoints import MAP, save_state
from hoarfrost.prob_model.posterior.fitted import FittedState
from hoarfrost.prob_model.posterior.saved import Storage, as_map, save_map
from hoarfrost.prob_model.state import PosteriorState
from hoarfrost.training.checkpoint import Checkpoint
from hoarfrost.training.checkpoint_folder import POSTERIOR
from hoarfrost.types import Tree


@dataclass(frozen=True)
class WeightState(FittedState):
    """A posterior by its draws, and parameters at which the frozen leaves stand.

    `params` has the posterior's mean at the trainable leaves; of samples and members the last one,
    with statistics of its own.

    Attributes
    ----------
    weights : hoarfrost.methods.WeightPosterior
        The posterior over the trainable leaves, which `partition` names.
    """

    weights: WeightPosterior = dataclasses.field(kw_only=True)


def state_with(weights: WeightPosterior, **others: Any) -> WeightState:
    """The state of a posterior that was fitted."""
    subset, listed = weights.subset, weights.distribution.listed
    trainable: Tree = weights.mean if listed is None else listed.at(-1).trainable
    if listed is not None and listed.statistics:
        # No draw uses those of the subset; a fit that starts from this state does.
        own = with_own(subset.mutable, weights.moving, listed.at(-1).statistics)
        subset = dataclasses.replace(subset, mutable=own)
        weights = dataclasses.replace(weights, subset=subset)
    trainable = jax.tree.map(
        lambda one, leaf: np.asarray(one).astype(leaf.dtype), trainable, subset.trainable
    )
    return WeightState(
        params=subset.partition.merge(trainable, subset.frozen),
        mutable=subset.mutable or None,
        partition=subset.partition,
        weights=weights,
        **others,
    )


def storage_of(name: str, *, from_map: bool = True) -> Storage:
    """How states of the method `name` are written, and read; `from_map`: those of a MAP, too."""

    def save(folder: str, state: PosteriorState, keep: int) -> Path:
        if not isinstance(state, WeightState):
            return save_map(folder, state, keep)
        # The frozen parameters are among those of the state.
        beside = functools.partial(state.weights.save, frozen=False)
        return save_state(folder, name, state, keep, beside=beside)

    reads: dict[str, Any] = {MAP: as_map} if from_map else {}
    return Storage(save, {**reads, name: _as_weights})


def _as_weights(found: Checkpoint, state: PosteriorState, joint: Joint) -> WeightState:
    network = joint.network
    held = network.join(state.params, state.mutable or {})
    try:
        weights = load_posterior(found.path / POSTERIOR, model=network, params=held)
    except (SavedFileError, InvalidArgumentError) as error:
        raise CheckpointError(f"the posterior of the checkpoint cannot be used: {error}") from error
    return WeightState(**vars(state), partition=weights.subset.partition, weights=weights)
