"""Functions that are called while training goes on."""

from __future__ import annotations

from typing import Any


class FitCallback:
    """Functions called while training goes on; override those that are needed.

    Each one takes the training state and returns the state to go on with.
    """

    def training_epoch_start(self, state: Any) -> Any:
        """Called before the first step of each epoch."""
        return state

    def training_epoch_end(self, state: Any) -> Any:
        """Called after the last step of each epoch."""
        return state

    def training_step_end(self, state: Any) -> Any:
        """Called after each step."""
        return state
