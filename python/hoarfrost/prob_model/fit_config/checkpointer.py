"""Where a fit starts from, and what it writes to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hoarfrost.checks import check_switch
from hoarfrost.prob_model.fit_config.arguments import check_disk, check_least


@dataclass(frozen=True)
class FitCheckpointer:
    """Where a fit starts from, and what it writes to disk.

    A checkpoint holds all that it takes to go on: parameters, statistics, the optimiser's state,
    step, epoch, the place within the epoch, the keys of dropout, what was recorded so far and what
    early stopping has seen. A run that goes on from it comes to the same bits (on the same device)
    as one that was never interrupted, also where the first was killed. An epoch that had begun is
    finished first, without the batches that it had done, and is the first of ``n_epochs``; epoch n
    takes the order of ``train_data_loader.epoch(n)``, n counted from the very first epoch. The
    status holds all epochs, those before the checkpoint too. What a callback keeps for itself is
    not in a checkpoint, and its ``training_epoch_start`` is not called again for a broken epoch. A
    run that early stopping had ended has no further epoch. Training over features
    (`FitProcessor.cache_features`, `hoarfrost.features`) and over the data go on from each other's
    checkpoints, then equal to rounding only.

    Parameters
    ----------
    save_checkpoint_dir : str or Path, optional
        A folder, which is made if it is not there. When a fit is done its last state is written
        into it, in a folder ``map_<number>_step_<step>`` (``laplace_...``) of its own; the status
        says which under "checkpoint". A checkpoint is whole or not there. Nothing that Hoarfrost
        did not write is touched.
    restore_checkpoint_path : str or Path, optional
        A checkpoint, or a folder in which the newest is taken. It wins over
        `start_from_current_state`, and both win over ``map_fit_config``; a warning and
        ``status["start"]`` say what was used and what was not. With another optimiser or another
        `freeze_fun` the parameters are used and the optimiser's state starts anew, with a warning.
        (An optimiser of the same kind with other numbers goes on with the old one's state.)
    start_from_current_state : bool or None
        Whether to start from the state that the model has, rather than from new parameters; None
        is False. Of it parameters and statistics are used: epochs and the optimiser start anew.
    save_every_n_steps : int, optional
        Steps between two checkpoints while training goes on; None for none but the last. One that
        falls between the batches of an update (``gradient_accumulation_steps``) is written after
        it.
    keep_top_n_checkpoints : int
        How many checkpoints of its method a folder keeps, the newest; acts only together with
        `save_checkpoint_dir`. An old one is removed when the new one is whole.
    dump_state : bool
        Whether the state is on the disk alone after the fit, in `save_checkpoint_dir`:
        ``posterior.state.get()`` reads it from there at every call.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type that is not accepted, or one that writes is given without
        `save_checkpoint_dir`.
    """

    save_checkpoint_dir: str | Path | None = None
    restore_checkpoint_path: str | Path | None = None
    start_from_current_state: bool | None = False
    save_every_n_steps: int | None = None
    keep_top_n_checkpoints: int = 2
    dump_state: bool = False

    def __post_init__(self) -> None:
        if self.start_from_current_state is None:
            object.__setattr__(self, "start_from_current_state", False)
        check_switch("start_from_current_state", self.start_from_current_state)
        check_least("keep_top_n_checkpoints", self.keep_top_n_checkpoints, least=1)
        check_disk(
            self.save_checkpoint_dir,
            self.restore_checkpoint_path,
            self.save_every_n_steps,
            self.dump_state,
        )
