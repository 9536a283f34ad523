"""What a fitted model holds, and the one place where it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.errors import InvalidArgumentError, NotFittedError
from hoarfrost.types import Tree


@dataclass(frozen=True)
class JointState:
    """Parameters of a model: one draw from a posterior, or where training starts.

    Attributes
    ----------
    params : tree of arrays
        All parameters, ``{"model": {"params": ...}}``.
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


@dataclass(frozen=True)
class PosteriorState(JointState):
    """The state of a posterior: `params` holds the MAP at every leaf, frozen or not."""


class StateRepository:
    """Where a posterior keeps its state; empty until it is fitted."""

    def __init__(self) -> None:
        self._state: PosteriorState | None = None

    def get(self) -> PosteriorState:
        """The state, as it is and not copied.

        Raises
        ------
        NotFittedError
            If there is none yet.
        """
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
        self._state = state
