"""The state of a posterior as a checkpoint, and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import CheckpointError
from hoarfrost.freezing import Partition
from hoarfrost.network.nested import by_path, nested
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.fitting import calibration_misfit, misfit
from hoarfrost.prob_model.state import PosteriorState
from hoarfrost.training import checkpoint
from hoarfrost.training.checkpoint import Checkpoint
from hoarfrost.training.progress import Progress, UnderWay, Write
from hoarfrost.training.state import TrainState
from hoarfrost.training.stored_tree import by_names
from hoarfrost.types import Tree

MAP, LAPLACE, CALIBRATION = "map", "laplace", "calibration"


def save_state(
    folder: str,
    method: str,
    state: PosteriorState,
    keep: int,
    *,
    finished: bool = True,
    facts: Mapping[str, Any] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> Path:
    """Write a state as a checkpoint; `finished` says that its best parameters are what it is."""
    trees = {
        "params": state.params,
        "mutable": state.mutable,
        "calib_params": state.calib_params,
        "opt_state": by_names(state.opt_state),
    }
    own: dict[str, Any] = {"step": int(state.step), "finished": finished, **(facts or {})}
    if state.progress is not None:
        more, known = progress_parts(state.progress)
        trees |= more
        own |= known
    return checkpoint.save(folder, method, trees, own, keep, beside)


def state_of(found: Checkpoint, joint: Joint, *, result: bool) -> PosteriorState:
    """The state that a checkpoint holds.

    Parameters
    ----------
    result : bool
        What training came to: the best state where it was early stopping that ended it. Else what
        training goes on from.

    Raises
    ------
    CheckpointError
        If it is that of another model; what is known of the model is compared.
    """
    trees, facts = found.trees, found.facts
    try:
        state = PosteriorState(
            params=trees["params"],
            mutable=trees["mutable"],
            calib_params=trees["calib_params"],
            step=facts["step"],
            opt_state=trees["opt_state"],
            progress=progress_of(found),
        )
    except KeyError as error:
        raise CheckpointError(
            f"the checkpoint {found.path} is damaged: it has no {error}; give the path of another"
        ) from error
    progress = state.progress
    inputs = None if progress is None else progress.inputs
    fault = misfit(joint, state.params, state.mutable, inputs)
    if not fault and joint.likelihood.calibrator is not None:
        fault = calibration_misfit(joint, state)
    if fault:
        raise CheckpointError(f"the checkpoint {found.path} is that of another model: {fault}")
    if state.calib_params is not None and joint.likelihood.calibrator is None:
        warnings.warn(
            f"the checkpoint {found.path} has a calibration, and the model was made with "
            "output_calibrator=None: it is left out",
            UserWarning,
            stacklevel=5,
        )
        state = state.replace(calib_params=None)
    if result and facts["finished"] and progress is not None and progress.best is not None:
        best = progress.best
        state = state.replace(
            params=nested({**by_path(state.params), **by_path(best["params"])}),
            mutable=best["mutable"] or None,
            step=int(best["step"]),
            opt_state=None,
            progress=replace(progress, best=None, watched=None),
        )
    return state


def training_writer(
    folder: str, keep: int, partition: Partition, inputs: Tree, written: list[Path]
) -> Write:
    """What writes the checkpoints of MAP training; the path of the last is put into `written`."""

    def write(state: TrainState, progress: Progress, finished: bool) -> None:
        now = PosteriorState(
            params=partition.merge(state.params, state.frozen_params),
            mutable=state.mutable or None,
            step=state.step,
            opt_state=state.opt_state,
            progress=replace(progress, inputs=inputs),
        )
        written[:] = [save_state(folder, MAP, now, keep, finished=finished)]

    return write


def progress_parts(progress: Progress) -> tuple[dict[str, Tree], dict[str, Any]]:
    """The trees and the facts of how far a run has come."""
    under_way = progress.under_way
    trees: dict[str, Tree] = {
        "key": progress.key,
        "history": dict(progress.history),
        "best": progress.best,
        "inputs": progress.inputs,
    }
    facts: dict[str, Any] = {
        "epochs": progress.epochs,
        "optimizer": progress.optimizer,
        "watched": progress.watched,
        "over_features": progress.over_features,
    }
    if under_way is not None:
        trees["under_way"] = {
            "totals": by_names(under_way.totals),
            "predictions": under_way.predictions,
        }
        facts["under_way"] = {"batches": under_way.batches, "points": under_way.points}
    return trees, facts


def progress_of(found: Checkpoint) -> Progress | None:
    """How far the run had come that wrote a checkpoint; None where that is not known."""
    trees, facts = found.trees, found.facts
    if "epochs" not in facts:
        return None
    under_way = None
    if "under_way" in facts:
        under_way = UnderWay(**facts["under_way"], **trees["under_way"])
    return Progress(
        epochs=facts["epochs"],
        key=trees["key"],
        optimizer=facts["optimizer"],
        history={name: np.asarray(values) for name, values in trees["history"].items()},
        under_way=under_way,
        watched=facts["watched"],
        best=trees["best"],
        inputs=trees["inputs"],
        over_features=facts["over_features"],
    )


def without_points(inputs: Tree) -> Tree:
    """A batch without its points: shapes and dtypes are left."""
    return jax.tree.map(lambda leaf: np.empty((0, *leaf.shape[1:]), leaf.dtype), inputs)
