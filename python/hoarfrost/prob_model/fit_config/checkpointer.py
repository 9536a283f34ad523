"""Where a fit starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hoarfrost.checks import check_switch, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config.arguments import check_least


@dataclass(frozen=True)
class FitCheckpointer:
    """Where a fit starts from.

    Writing checkpoints to disk and reading them is not available in this version: the arguments
    that ask for it raise, rather than being ignored.

    Parameters
    ----------
    save_checkpoint_dir : str or Path, optional
        Must be None in this version.
    restore_checkpoint_path : str or Path, optional
        Must be None in this version.
    start_from_current_state : bool or None
        Whether to start from the state that the model has, rather than from new parameters; None
        is False.
    save_every_n_steps : int, optional
        Must be None in this version.
    keep_top_n_checkpoints : int
        How many checkpoints a directory keeps; acts only together with `save_checkpoint_dir`.
    dump_state : bool
        Must be False in this version.

    Raises
    ------
    InvalidArgumentError
        If an argument asks for checkpoints on disk, or has a type that is not accepted.
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
        check_switch("dump_state", self.dump_state)
        check_least("keep_top_n_checkpoints", self.keep_top_n_checkpoints, least=1)
        asked = {
            "save_checkpoint_dir": self.save_checkpoint_dir is not None,
            "restore_checkpoint_path": self.restore_checkpoint_path is not None,
            "save_every_n_steps": self.save_every_n_steps is not None,
            "dump_state": bool(self.dump_state),
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise InvalidArgumentError(
                    f"{name} is {shown(getattr(self, name))}, but checkpoints on disk are not "
                    "available in this version; to go on from an earlier fit of the same model use "
                    "start_from_current_state=True, and to keep the parameters keep what "
                    "posterior.state.get().params returns"
                )
