"""What a training step changes, and what a callback may see of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, Self

import jax

from hoarfrost.types import Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a training run; ``state.replace(...)`` makes a changed copy.

    Attributes
    ----------
    params : tree of arrays
        The trainable parameters only; the whole tree where nothing is frozen.
    frozen_params : tree of arrays
        The frozen parameters, which no step changes.
    mutable : tree of arrays
        Collections other than "params", such as the running statistics of a BatchNorm.
    opt_state : tree
        State of the optimiser, for the trainable parameters only.
    step : jax.Array
        Number of steps so far, one a batch, int32, shape ``()``.
    """

    params: Tree
    frozen_params: Tree
    mutable: Tree
    opt_state: Tree
    step: jax.Array

    def replace(self, **changes: Any) -> Self:
        """A copy in which some attributes are others."""
        return dataclasses.replace(self, **changes)


class Callback(Protocol):
    """Three moments of a training run; each takes the state and returns it, changed or not."""

    def training_epoch_start(self, state: TrainState) -> TrainState:
        """Called before the first step of each epoch."""

    def training_step_end(self, state: TrainState) -> TrainState:
        """Called after each batch's step."""

    def training_epoch_end(self, state: TrainState) -> TrainState:
        """Called after the last step of each epoch, before validation."""
