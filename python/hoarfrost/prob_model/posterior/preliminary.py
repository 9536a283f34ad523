"""What a fit of any posterior does first and last: where it starts, a MAP, the state."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from hoarfrost.data import DataLoader
from hoarfrost.freezing import Partition, Subset
from hoarfrost.prob_model.fit_config import FitConfig
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.checkpoints import MAP
from hoarfrost.prob_model.posterior.map_fit import Status, on_processor, partition_of, run_map
from hoarfrost.prob_model.posterior.saved import Storage, keep_on_disk
from hoarfrost.prob_model.posterior.start import Start, has_source, start_of
from hoarfrost.prob_model.state import PosteriorState, StateRepository
from hoarfrost.training import checkpoint


@dataclass(frozen=True)
class Preliminary:
    """Where the fit of a posterior begins.

    Attributes
    ----------
    at : PosteriorState
        Parameters and statistics: the MAP, where one was trained.
    partition : Partition
        Which parameters are trainable.
    trained : bool
        Whether a MAP was trained.
    """

    at: PosteriorState
    partition: Partition
    trained: bool


def preliminary_fit(
    joint: Joint,
    state: StateRepository,
    storage: Storage,
    train: DataLoader,
    val: DataLoader | None,
    config: FitConfig,
    map_fit_config: FitConfig | None,
    status: Status,
    *,
    check: Callable[[Subset], bool],
) -> Preliminary:
    """Train to the MAP if that is asked for, else take what there is to start from.

    Parameters
    ----------
    config, map_fit_config : FitConfig
        Of the posterior, and of a MAP before it. What `config` starts from wins, with a warning.
    status : dict
        "map" is put into it, or "start".
    check : callable (Subset) -> bool
        Raises if the posterior cannot be fitted, before anything is trained; whether a MAP is of
        use.

    Raises
    ------
    CheckpointError, NotFittedError, ShapeError
        As `start_of` does.
    """
    not_used: tuple[str, ...] = ()
    if map_fit_config is not None and has_source(config):
        not_used, map_fit_config = ("map_fit_config",), None
    with on_processor((map_fit_config or config).processor) as devices:
        begin = start_of(
            joint,
            state,
            map_fit_config or config,
            train,
            devices,
            (MAP,) if map_fit_config is not None else tuple(storage.reads),
            resumes=map_fit_config is not None,
            not_used=not_used,
        )
        start = begin.state
        partition = partition_of(joint, start, config, train, devices)
        subset = Subset(joint.network, partition, start.params, start.mutable or {})
        if not check(subset):
            map_fit_config = None
        params, mutable = devices.alone((start.params, start.mutable))
        at = PosteriorState(params, mutable, step=getattr(start, "step", 0))
        at = at.replace(progress=getattr(start, "progress", None))
        if map_fit_config is None:
            _tell(begin, joint, partition, status)
            return Preliminary(at, partition, False)
        at, status["map"] = run_map(joint, state, begin, train, val, map_fit_config, devices)
        # Nothing goes on from it, and it may be twice as large as the parameters.
        return Preliminary(at.replace(opt_state=None), partition, True)


def put_fitted(
    joint: Joint,
    state: StateRepository,
    storage: Storage,
    fitted: PosteriorState,
    config: FitConfig,
    status: Status,
) -> None:
    """Make what was fitted the state, and write it to disk where that is asked for.

    Raises
    ------
    CheckpointError
        If it cannot be written; it is in ``state.unfinished`` then.
    """
    folder, keep = folder_of(config), config.checkpointer.keep_top_n_checkpoints
    if folder is not None:
        try:
            written = storage.writes(folder, fitted, keep)
        except BaseException as error:
            state.keep_unfinished(fitted, "the posterior that was fitted", error)
            raise
        status["checkpoint"] = str(written)
    state.put(fitted)
    if config.checkpointer.dump_state:
        keep_on_disk(state, joint, status["checkpoint"], storage)


def folder_of(config: FitConfig) -> str | None:
    """Where a fit writes checkpoints, made ready before its work."""
    folder = config.checkpointer.save_checkpoint_dir
    if folder is None:
        return None
    found = os.path.abspath(folder)
    checkpoint.prepare(found)
    return found


def _tell(begin: Start, joint: Joint, partition: Partition, status: Status) -> None:
    begin.tell(status)
    if begin.is_new and joint.starts_anew and not partition.all_trainable:
        warnings.warn(
            "freeze_fun freezes parameters at their random initial values; train to a MAP first "
            "(map_fit_config=FitConfig(...)), or start from a state or a checkpoint "
            "(FitCheckpointer)",
            UserWarning,
            stacklevel=5,
        )
