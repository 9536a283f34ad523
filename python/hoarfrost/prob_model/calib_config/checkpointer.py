"""Where a calibration goes on from, and what it writes to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hoarfrost.checks import check_counts
from hoarfrost.prob_model.fit_config.arguments import check_disk


@dataclass(frozen=True)
class CalibCheckpointer:
    """Where a calibration goes on from, and what it writes to disk.

    As `FitCheckpointer` says of training: a calibration that goes on from a checkpoint, with the
    weight samples that the first one drew, comes to the same bits as one that was never
    interrupted.

    Parameters
    ----------
    save_checkpoint_dir : str or Path, optional
        A folder, which is made if it is not there, for checkpoints
        ``calibration_<number>_step_<step>``. They hold the calibrator and not the posterior, which
        ``save_state`` writes.
    restore_checkpoint_path : str or Path, optional
        A checkpoint, or a folder in which the newest is taken. A warning says if the posterior or
        the data are not those of the first calibration.
    save_every_n_steps : int, optional
        Steps between two checkpoints; None for none but the last.
    keep_top_n_checkpoints : int
        How many a folder keeps, the newest; acts only together with `save_checkpoint_dir`.
    dump_state : bool
        Whether the state of the posterior, with its calibration, is on the disk alone afterwards:
        it is written into `save_checkpoint_dir` as ``save_state`` writes it.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type that is not accepted, or one that writes is given without
        `save_checkpoint_dir`.
    """

    save_checkpoint_dir: str | Path | None = None
    restore_checkpoint_path: str | Path | None = None
    save_every_n_steps: int | None = None
    keep_top_n_checkpoints: int = 2
    dump_state: bool = False

    def __post_init__(self) -> None:
        check_counts(keep_top_n_checkpoints=self.keep_top_n_checkpoints)
        check_disk(
            self.save_checkpoint_dir,
            self.restore_checkpoint_path,
            self.save_every_n_steps,
            self.dump_state,
        )
