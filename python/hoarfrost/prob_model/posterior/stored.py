"""What posteriors of the front share: a state, its checkpoints, and the way back into a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.saved import Storage, load_posterior, save_posterior
from hoarfrost.prob_model.posterior.write import write_state
from hoarfrost.prob_model.state import JointState, StateRepository


class StoredPosterior:
    """A posterior with a state that is kept on disk and written into modules.

    Attributes
    ----------
    joint : Joint
        Prior and likelihood.
    state : StateRepository
        What was fitted.
    storage : Storage
        How the state is written to disk, and read.
    """

    storage: Storage

    def __init__(self, joint: Joint) -> None:
        self.joint = joint
        self.state = StateRepository()

    def save_state(self, checkpoint_path: str | Path, keep_top_n_checkpoints: int = 1) -> None:
        """Write the state and its posterior into a folder, as a checkpoint of its own.

        Parameters
        ----------
        checkpoint_path : str or Path
            The folder, which is made if it is not there.
        keep_top_n_checkpoints : int
            How many checkpoints of this method it keeps, the newest; nothing else in it is
            touched, those of another method neither.

        Raises
        ------
        NotFittedError
            If there is no state.
        CheckpointError
            If it cannot be written; what was there is as it was.
        """
        save_posterior(self.state, checkpoint_path, keep_top_n_checkpoints, self.storage)

    def load_state(self, checkpoint_path: str | Path) -> None:
        """Make the state of a checkpoint the current one: parameters, statistics and calibration.

        With a checkpoint of this method that is the posterior, which is not fitted again; with
        that of a MAP the parameters, which ``FitCheckpointer(start_from_current_state=True)`` then
        starts from. An SNGP, whose model has random features, takes its own alone.

        Parameters
        ----------
        checkpoint_path : str or Path
            A checkpoint, or a folder in which the newest that will do is taken.

        Raises
        ------
        CheckpointError
            If there is none, or it is damaged, of a newer version, of another method or of another
            model (what is known of the model without data is compared). The state is as it was.
        """
        load_posterior(self.state, self.joint, checkpoint_path, self.storage)

    def write_to(
        self, module: Any, state: JointState | None = None, *, name: str = "model"
    ) -> None:
        """Put parameters and running statistics into an NNX module, which training leaves alone.

        Parameters
        ----------
        module : flax.nnx.Module
            Changed in place: its random state and modes stay as they are.
        state : JointState, optional
            What `sample` returned; by default the state that the fit left.
        name : {"model", "lik_log_var"}
            Of which network.

        Raises
        ------
        NotFittedError
            If there is no state.
        InvalidArgumentError, ShapeError
            If the module is none of NNX, or not like the network. Nothing is written then.
        """
        write_state(self.joint, self.state.get() if state is None else state, module, name)
