"""A calibration that is under way, as a checkpoint, and back."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_path
from hoarfrost.errors import CheckpointError
from hoarfrost.prob_model.calib_config import CalibCheckpointer
from hoarfrost.prob_model.posterior.checkpoints import CALIBRATION, progress_of, progress_parts
from hoarfrost.prob_model.posterior.fitting import difference
from hoarfrost.storage import digest
from hoarfrost.training import checkpoint
from hoarfrost.training.checkpoint import Checkpoint
from hoarfrost.training.progress import Progress, Resumption, Write
from hoarfrost.training.state import TrainState
from hoarfrost.training.stored_tree import by_names
from hoarfrost.types import Tree


@dataclass(frozen=True)
class Restored:
    """A calibration that a checkpoint holds.

    Attributes
    ----------
    found : Checkpoint
        Where it comes from.
    progress : Progress
        How far it had come.
    """

    found: Checkpoint
    progress: Progress

    @property
    def key(self) -> jax.Array:
        """The key that its weight samples were drawn with."""
        key: jax.Array = self.progress.key
        return key

    @property
    def resumption(self) -> Resumption:
        """What goes on."""
        return Resumption(self.found.facts["step"], self.found.trees["opt_state"], self.progress)

    def variables_like(self, variables: Tree, data: str) -> Tree:
        """The calibrator's variables, if they are those of this calibrator.

        A warning says if the outputs that it is fitted to are not those of before.
        """
        own = self.found.trees["variables"]
        fault = difference(own, variables)
        if fault:
            raise CheckpointError(
                f"the checkpoint {self.found.path} is that of another output_calibrator: {fault}"
            )
        if self.found.facts["data"] != data:
            warnings.warn(
                f"the checkpoint {self.found.path} is of a calibration of another posterior or on "
                "other data: this one goes on from its calibrator all the same",
                UserWarning,
                stacklevel=4,
            )
        return own

    def told(self, not_resumed: Sequence[str]) -> dict[str, Any]:
        """What the status says of it."""
        return {
            "from": "checkpoint",
            "path": str(self.found.path),
            "step": self.found.facts["step"],
            "epochs": self.progress.epochs,
            "not_used": (),
            "not_resumed": tuple(not_resumed),
        }


def restored(checkpointer: CalibCheckpointer) -> Restored | None:
    """The calibration to go on with; None where there is none."""
    if checkpointer.restore_checkpoint_path is None:
        return None
    path = check_path("restore_checkpoint_path", checkpointer.restore_checkpoint_path)
    found = checkpoint.load(path, (CALIBRATION,))
    progress = progress_of(found)
    if progress is None:
        raise CheckpointError(f"the checkpoint {found.path} is damaged; give another one")
    return Restored(found, progress)


def prepared(checkpointer: CalibCheckpointer) -> str | None:
    """The folder to write checkpoints into, made if it was not there."""
    if checkpointer.save_checkpoint_dir is None:
        return None
    folder = check_path("save_checkpoint_dir", checkpointer.save_checkpoint_dir)
    checkpoint.prepare(folder)
    return folder


def writer(
    folder: str | None,
    checkpointer: CalibCheckpointer,
    key: jax.Array,
    data: str,
    written: list[Path],
) -> Write | None:
    """What writes checkpoints; the path of the last is put into `written`."""
    if folder is None:
        return None

    def write(state: TrainState, progress: Progress, finished: bool) -> None:
        trees, facts = progress_parts(replace(progress, key=key))
        trees |= {"variables": state.params, "opt_state": by_names(state.opt_state)}
        facts |= {"step": int(state.step), "finished": finished, "data": data}
        keep = checkpointer.keep_top_n_checkpoints
        written[:] = [checkpoint.save(folder, CALIBRATION, trees, facts, keep)]

    return write


def digest_of(batches: Iterable[Sequence[Any]]) -> str:
    """By which outputs and targets are known again."""
    found = hashlib.sha256()
    for batch in batches:
        outputs, targets = map(np.asarray, batch[:2])
        found.update(digest({"outputs": outputs, "targets": targets}).encode())
    return found.hexdigest()
