"""Where calibration would write checkpoints to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hoarfrost.checks import check_counts, shown
from hoarfrost.errors import InvalidArgumentError


@dataclass(frozen=True)
class CalibCheckpointer:
    """Where calibration would write checkpoints to.

    Checkpoints on disk are not available in this version: the arguments that ask for them raise,
    rather than being ignored.

    Parameters
    ----------
    save_checkpoint_dir, restore_checkpoint_path : str or Path, optional
        Must be None in this version.
    save_every_n_steps : int, optional
        Must be None in this version.
    keep_top_n_checkpoints : int
        How many checkpoints a directory keeps; acts only together with `save_checkpoint_dir`.
    dump_state : bool
        Must be False in this version.

    Raises
    ------
    InvalidArgumentError
        If an argument asks for checkpoints on disk.
    """

    save_checkpoint_dir: str | Path | None = None
    restore_checkpoint_path: str | Path | None = None
    save_every_n_steps: int | None = None
    keep_top_n_checkpoints: int = 2
    dump_state: bool = False

    def __post_init__(self) -> None:
        check_counts(keep_top_n_checkpoints=self.keep_top_n_checkpoints)
        for name in (
            "save_checkpoint_dir",
            "restore_checkpoint_path",
            "save_every_n_steps",
            "dump_state",
        ):
            value = getattr(self, name)
            if value is not None and value is not False:
                raise InvalidArgumentError(
                    f"{name} is {shown(value)}, but checkpoints on disk are not available in this "
                    "version; to keep a calibration keep posterior.state.get().calib_params"
                )
