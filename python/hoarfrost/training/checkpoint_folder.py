"""A folder of checkpoints: their names, new ones that are there whole or not at all, old ones.

A checkpoint is written under another name and renamed when all of it is on the disk. Numbers rise
in a folder: the largest is the newest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER, ARRAYS, POSTERIOR = "header.json", "arrays", "posterior.safetensors"
_UNFINISHED = ".hoarfrost_unfinished_"
_NAME = re.compile(r"([a-z_]+)_([0-9]+)_step_([0-9]+)")


@dataclass(frozen=True)
class Found:
    """A folder with the name of a checkpoint and a header."""

    path: Path
    method: str
    number: int


def checkpoints(folder: str) -> list[Found]:
    """All in a folder, the newest last."""
    found = []
    for name in os.listdir(folder):
        match = _NAME.fullmatch(name)
        place = Path(folder, name)
        if match and (place / HEADER).is_file() and not place.is_symlink():
            found.append(Found(place, match[1], int(match[2])))
    return sorted(found, key=lambda one: one.number)


@contextlib.contextmanager
def unfinished(folder: str) -> Iterator[Path]:
    """A new folder to write a checkpoint in, which is gone afterwards if it was not renamed.

    It is locked as long as its writer lives: what others left that were killed is removed.
    """
    os.makedirs(folder, exist_ok=True)
    _remove_left(folder)
    place, lock = _locked(folder)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def _locked(folder: str) -> tuple[Path, int]:
    """A new folder and its lock."""
    while True:
        place = Path(folder, _UNFINISHED + secrets.token_hex(8))
        place.mkdir()
        lock = os.open(place, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():
            return place, lock
        os.close(lock)  # taken for one that was left, before it was locked


def _remove_left(folder: str) -> None:
    for name in os.listdir(folder):
        if not name.startswith(_UNFINISHED):
            continue
        with contextlib.suppress(OSError):
            lock = os.open(Path(folder, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(Path(folder, name), ignore_errors=True)
            finally:
                os.close(lock)


def to_disk(place: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for path in (*files_below(place), *(Path(folder) for folder, _, _ in os.walk(place))):
        _flush(path)


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def publish(place: Path, folder: str, method: str, step: int) -> Path:
    """Give a whole checkpoint its name."""
    number = max((one.number for one in checkpoints(folder)), default=0)
    while True:
        number += 1
        path = Path(folder, f"{method}_{number}_step_{step}")
        if os.path.lexists(path):  # another writer's, or something of the user's
            continue
        try:
            place.rename(path)
        except FileExistsError:
            continue
        except OSError:
            if os.path.lexists(path):
                continue
            raise
        _flush(Path(folder))
        return path


def remove_old(folder: str, method: str, keep: int) -> None:
    """Remove all but the newest of a method; one in which somebody put something else stays."""
    for old in [one for one in checkpoints(folder) if one.method == method][:-keep]:
        with contextlib.suppress(FileNotFoundError):  # another writer was faster
            if set(os.listdir(old.path)) <= {HEADER, ARRAYS, POSTERIOR}:
                # By another name first: what has the name of a checkpoint is whole.
                gone = Path(folder, _UNFINISHED + secrets.token_hex(8))
                old.path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and in those within it."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)
