"""Where a fit starts: a checkpoint before the current state, and that before new parameters."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_path
from hoarfrost.data import DataLoader
from hoarfrost.data.checked import data_batches
from hoarfrost.data.features import origin_of
from hoarfrost.devices import Devices
from hoarfrost.errors import CheckpointError, ShapeError
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.checkpoints import state_of
from hoarfrost.prob_model.posterior.fitting import misfit
from hoarfrost.prob_model.state import JointState, PosteriorState, StateRepository
from hoarfrost.training import checkpoint
from hoarfrost.training.progress import Resumption
from hoarfrost.types import Tree


@dataclass(frozen=True)
class Start:
    """Where a fit starts.

    Attributes
    ----------
    state : JointState
        Parameters and statistics.
    is_new : bool
        Whether they are no training's.
    path : Path or None
        The checkpoint that they come from.
    not_used : tuple of str
        What was given and is not used, as it would have been another start.
    """

    state: JointState
    is_new: bool = False
    path: Path | None = None
    not_used: tuple[str, ...] = ()

    @property
    def resume(self) -> Resumption | None:
        """What training goes on from; None where it does not go on."""
        state = self.state
        if self.path is None or not isinstance(state, PosteriorState):
            return None
        return Resumption(int(state.step), state.opt_state, state.progress)

    @property
    def over_features(self) -> bool | None:
        """Whether the training that goes on went over features; None where it is not known."""
        resume = self.resume
        return None if resume is None or resume.progress is None else resume.progress.over_features

    def tell(self, status: dict[str, Any], not_resumed: Sequence[str] = ()) -> None:
        """Say in a status where a fit started, if there was a choice."""
        if self.path is None and not self.not_used:
            return
        start: dict[str, Any] = {"from": "current state", "not_used": self.not_used}
        if self.path is not None:
            state = self.state
            assert isinstance(state, PosteriorState)
            epochs = 0 if state.progress is None else state.progress.epochs
            start |= {"from": "checkpoint", "path": str(self.path), "step": int(state.step)}
            start |= {"epochs": epochs, "not_resumed": tuple(not_resumed)}
        status["start"] = start


def first_inputs(train_loader: DataLoader) -> Tree:
    """A batch of inputs of the network, of which shapes and dtypes are used; zeros for features."""
    origin = origin_of(train_loader)
    if origin is not None:
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), origin.point)
    return next(data_batches(train_loader, argument="train_data_loader", masks=True)).inputs


def has_source(config: FitConfig) -> bool:
    """Whether a configuration names what to start from."""
    checkpointer = config.checkpointer
    return bool(checkpointer.start_from_current_state) or (
        checkpointer.restore_checkpoint_path is not None
    )


def start_of(
    joint: Joint,
    state: StateRepository,
    config: FitConfig,
    train_loader: DataLoader,
    devices: Devices,
    methods: Sequence[str],
    *,
    resumes: bool,
    not_used: Sequence[str] = (),
) -> Start:
    """Where a fit starts, on its devices, with a warning of what else was given.

    Parameters
    ----------
    devices
        Where parameters and statistics are put.
    methods
        Whose checkpoints will do.
    resumes : bool
        Whether training goes on, from its last state; else what it came to is the start.
    not_used
        What has lost against `config` already.

    Raises
    ------
    NotFittedError
        If the current state is asked for and there is none.
    CheckpointError
        If there is no checkpoint that can be used.
    ShapeError
        If a current state that no training of this model made is not one of this model.
    """
    checkpointer = config.checkpointer
    inputs = first_inputs(train_loader)
    lost = list(not_used)
    if checkpointer.restore_checkpoint_path is not None:
        if checkpointer.start_from_current_state:
            lost.insert(0, "start_from_current_state")
        path = check_path("restore_checkpoint_path", checkpointer.restore_checkpoint_path)
        found = checkpoint.load(path, methods)
        restored = state_of(found, joint, result=not resumes)
        start = Start(_on(devices, restored), False, found.path, tuple(lost))
        fault = misfit(joint, start.state.params, start.state.mutable, inputs)
        if fault:
            raise CheckpointError(
                f"the checkpoint {found.path} does not fit the model and the data: {fault}"
            )
        _warn(f"the fit starts from the checkpoint {found.path}", lost)
        return start
    if checkpointer.start_from_current_state:
        current = state.get()
        fault = ""
        if current.progress is None:
            fault = misfit(joint, current.params, current.mutable, inputs)
        if fault:
            raise ShapeError(f"the current state does not fit the model and the data: {fault}")
        _warn("the fit starts from the current state", lost)
        return Start(_on(devices, current), not_used=tuple(lost))
    return Start(_on(devices, joint.init(inputs)), is_new=True)


def _on(devices: Devices, state: Any) -> Any:
    params, mutable = devices.whole((state.params, state.mutable))
    return dataclasses.replace(state, params=params, mutable=mutable)


def _warn(what: str, lost: Sequence[str]) -> None:
    if lost:
        warnings.warn(
            f"{what}, and does not use {' and '.join(lost)}; leave out what is not meant",
            UserWarning,
            stacklevel=5,
        )
