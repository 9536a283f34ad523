"""What a fitted model holds, and the one place where it is kept."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax

from hoarfrost.errors import InvalidArgumentError, NotFittedError
from hoarfrost.training.progress import Progress
from hoarfrost.types import Tree


@dataclass(frozen=True)
class JointState:
    """Parameters of a model: one draw from a posterior, or where training starts.

    Attributes
    ----------
    params : tree of arrays
        All parameters, ``{"model": {"params": ...}}``, in plain dicts.
    mutable : tree of arrays or None
        Other collections, ``{"model": {"batch_stats": ...}}``; None where there are none.
    calib_params : tree of arrays or None
        Of the output calibrator, ``{"output_calibrator": {"params": ...}}``; None before
        calibration, when outputs are used as they are.
    calib_mutable : None
        Calibrators have no other collections.
    """

    params: Tree
    mutable: Tree | None = None
    calib_params: Tree | None = None
    calib_mutable: Tree | None = None

    def replace(self, **changes: Any) -> Self:
        """A copy in which some attributes are others."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class PosteriorState(JointState):
    """The state of a posterior: `params` holds the MAP at every leaf, frozen or not.

    Attributes
    ----------
    step : int or jax.Array
        Steps of the training run that ended with these parameters, shape ``()``.
    opt_state : tree or None
        The optimiser's state after the last step, for the trainable parameters only; None where the
        parameters are not those of the last step (early stopping, an interruption), and where a
        posterior has no optimiser. A training that starts from this state starts it anew; one that
        restores it from a checkpoint goes on with it. As `load_state` reads it: nested dicts, keyed
        by the names of fields and by places.
    progress : Progress or None
        How far training had come (its "epochs" and "history", among others), for a checkpoint; None
        where it did not come to the end of an epoch.
    """

    step: int | jax.Array = 0
    opt_state: Tree | None = None
    progress: Progress | None = None


class StateRepository:
    """Where a posterior keeps its state; empty until it is fitted.

    Attributes
    ----------
    unfinished : PosteriorState or None
        What the last fit had reached when an error or Ctrl-C ended it, and None after one that
        was not ended so; ``put`` makes it the state.
    """

    def __init__(self) -> None:
        self._state: PosteriorState | None = None
        self._read: Callable[[], PosteriorState] | None = None
        self._changes: dict[str, Any] = {}
        self.unfinished: PosteriorState | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no state yet."""
        return self._state is None and self._read is None

    def get(self) -> PosteriorState:
        """The state, as it is and not copied; one that is on the disk is read anew at every call.

        Raises
        ------
        NotFittedError
            If there is none yet.
        CheckpointError
            If it is on the disk, and gone from there or damaged.
        """
        if self._read is not None:
            return self._read().replace(**self._changes)
        if self._state is None:
            raise NotFittedError(
                "the posterior has no state yet; call train(train_data_loader=...) first"
            )
        return self._state

    def put(self, state: PosteriorState) -> None:
        """Replace the state, for example by one that another model with the same network holds."""
        if not isinstance(state, PosteriorState):
            raise InvalidArgumentError(
                f"state is a {type(state).__name__}; give a PosteriorState, such as what "
                "posterior.state.get() returns"
            )
        self._state, self.unfinished = state, None
        self._read, self._changes = None, {}

    def put_on_disk(self, read: Callable[[], PosteriorState]) -> None:
        """Replace the state by one that `read` reads whenever it is asked for."""
        self._state, self.unfinished = None, None
        self._read, self._changes = read, {}

    def update(self, **changes: Any) -> None:
        """Change some attributes of the state; what is on the disk stays there as it is."""
        if self._read is None:
            self.put(self.get().replace(**changes))
        else:
            self._changes |= changes

    def kept(self) -> StateRepository:
        """What there is now, for `put_back`."""
        return copy.copy(self)

    def put_back(self, before: StateRepository) -> None:
        """Go back to what `kept` returned."""
        self._state, self.unfinished = before._state, None
        self._read, self._changes = before._read, before._changes

    def keep_unfinished(self, reached: PosteriorState, what: str, error: BaseException) -> None:
        """Keep what a fit had reached when `error` ended it, and note on the error where it is.

        It becomes the state where there is none; an old one stays as it is.
        """
        if self.is_empty:
            self._state = reached
        if self._state is reached:
            where = "posterior.state.get() returns them"
        else:
            where = (
                "posterior.state.unfinished holds them, and posterior.state.get() returns what it "
                "returned before this call"
            )
        self.unfinished = reached
        error.add_note(f"The model keeps {what}: {where}.")
