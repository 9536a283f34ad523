"""A file that is checked for before the work, and replaced only by one that is complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hoarfrost.errors import InvalidArgumentError

FORMATS = (".png", ".pdf", ".svg")


def check_destination(path: Path) -> None:
    """Find out now whether a picture can be written at `path` later; nothing is left behind.

    Raises
    ------
    InvalidArgumentError
        If the folder does not exist or cannot be written to, if `path` is a folder, or if its
        ending is not that of a picture.
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidArgumentError(
            f"the picture {str(path)!r} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        )
    if path.is_dir():
        raise InvalidArgumentError(f"the picture {str(path)!r} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InvalidArgumentError(
            f"the folder {str(path.parent)!r} does not exist; make it first, or name another"
        )
    trial = _beside(path)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise InvalidArgumentError(
            f"the folder {str(path.parent)!r} cannot be written to ({error.strerror}); name another"
        ) from error


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in the place of `path` at once.

    Whatever was there stays as it was if `write` fails or is interrupted.
    """
    unfinished = _beside(path)
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A name of this process alone in the same folder, with the same ending."""
    return path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
