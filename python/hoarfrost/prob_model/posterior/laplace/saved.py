"""A Laplace posterior as a checkpoint: its parameters, and the posterior in a file beside them."""

from __future__ import annotations

import functools
from pathlib import Path

import jax

from hoarfrost.errors import CheckpointError, InvalidArgumentError, SavedFileError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.laplace import Laplace, load_laplace
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.checkpoints import LAPLACE, MAP, save_state
from hoarfrost.prob_model.posterior.laplace.laplace_state import LaplaceState
from hoarfrost.prob_model.posterior.saved import Storage, as_map, save_map
from hoarfrost.prob_model.state import PosteriorState
from hoarfrost.training.checkpoint import Checkpoint
from hoarfrost.training.checkpoint_folder import POSTERIOR


def save_laplace(folder: str, state: PosteriorState, keep: int) -> Path:
    """Write a state; one without a posterior, which a fit can start from, as that of a MAP."""
    if not isinstance(state, LaplaceState):
        return save_map(folder, state, keep)
    facts = {"trainable": list(state.partition.mask)}
    # The frozen parameters are among those of the state.
    beside = functools.partial(state.laplace.save, frozen=False)
    return save_state(folder, LAPLACE, state, keep, facts=facts, beside=beside)


def as_laplace(found: Checkpoint, state: PosteriorState, joint: Joint) -> LaplaceState:
    """The state with its posterior, which is not fitted again."""
    flags = found.facts.get("trainable")
    leaves, treedef = jax.tree.flatten(state.params)
    if not isinstance(flags, list) or len(flags) != len(leaves):
        raise CheckpointError(
            f"the checkpoint {found.path} is damaged: it does not say which parameters its "
            "posterior is over; give the path of another one"
        )
    partition = make_partition(state.params, jax.tree.unflatten(treedef, flags))
    subset = Subset(joint.network, partition, state.params, state.mutable or {})
    laplace = _loaded(found.path / POSTERIOR, subset)
    return LaplaceState(**vars(state), partition=partition, laplace=laplace)


def _loaded(path: Path, subset: Subset) -> Laplace:
    network = subset.network
    try:
        held = network.join(subset.params, subset.mutable)
        return load_laplace(path, model=network, params=held)
    except (SavedFileError, InvalidArgumentError) as error:
        raise CheckpointError(f"the posterior of the checkpoint cannot be used: {error}") from error


BY_LAPLACE = Storage(save_laplace, {MAP: as_map, LAPLACE: as_laplace})
