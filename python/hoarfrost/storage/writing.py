"""Files that are there whole or not at all, written from pieces without a second copy."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.memory import format_bytes
from hoarfrost.storage.container import NAMES, NO_SUM, Pieces, Source, as_path, head_of, kind_of
from hoarfrost.types import Array


def write(
    path: str | os.PathLike[str],
    kind: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, Array | Pieces],
) -> None:
    """Write a file, which is at `path` when it is whole, and not before.

    Parameters
    ----------
    path : str or path
        Its place; a file of this kind that is there already is replaced at the end.
    kind : str
        What the file is, for its reader.
    header : mapping
        What JSON can hold. Floats come back with the same bits.
    arrays : mapping of str to ndarray or Pieces
        The arrays.

    Raises
    ------
    InvalidArgumentError
        If `path` is no path, its folder does not exist, or what is there is no file of this kind.
    SavedFileError
        If the file cannot be written. What was there before stays.
    """
    target = checked_target(path, kind)
    named = {name: Source(value) for name, value in arrays.items()}
    # Where a size is a multiple of a cache line, the next array is aligned, too.
    order = sorted(named, key=lambda name: (named[name].nbytes % 64 != 0, -named[name].nbytes))
    total = sum(source.nbytes for source in named.values())
    _check_space(target, total)
    # No longer than names may be.
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(8)}.tmp")
    try:
        _write_new(temporary, kind, header, {name: named[name] for name in order})
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise SavedFileError(
            f"{target} could not be written: {error.strerror or error}; what was there before is "
            f"as it was. It takes {format_bytes(total)}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def checked_target(path: Any, kind: str) -> Path:
    """Where a file of a kind is to go.

    Raises
    ------
    InvalidArgumentError
        If its folder does not exist, or what is there is no file of this kind.
    """
    target = as_path(path)
    try:
        target.is_dir()
    except OSError as error:
        raise InvalidArgumentError(
            f"path {str(target)!r} cannot be used: {error.strerror or error}; give another"
        ) from error
    if target.is_dir():
        raise InvalidArgumentError(f"path is {str(target)!r}, a folder; give the path of a file")
    if not target.parent.is_dir():
        raise InvalidArgumentError(f"the folder of path {str(target)!r} does not exist; make it")
    if target.exists() and kind_of(target) != kind:
        raise InvalidArgumentError(
            f"path {str(target)!r} holds something else than a {kind} file of Hoarfrost's; give "
            "another path, or remove it"
        )
    return target


def _write_new(
    path: Path, kind: str, header: Mapping[str, Any], sources: Mapping[str, Source]
) -> None:
    entries, end = {}, 0
    for name, source in sources.items():
        shape = list(source.shape)
        offsets = [end, end + source.nbytes]
        entries[name] = {"dtype": NAMES[source.dtype], "shape": shape, "data_offsets": offsets}
        end += source.nbytes
    sums = dict.fromkeys(sources, NO_SUM)
    place = head_of(kind, header, entries, sums)  # as long as it will be
    # The mode is what the umask leaves, and a file that is there is not written into.
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
    )
    with os.fdopen(descriptor, "wb") as file:
        file.seek(len(place))
        for name, source in sources.items():
            found = hashlib.sha256()
            for piece in source.pieces():
                found.update(piece)
                file.write(piece)
            sums[name] = found.hexdigest()
        file.truncate(len(place) + end)
        file.seek(0)
        file.write(head_of(kind, header, entries, sums))
        file.flush()
        os.fsync(file.fileno())


def _check_space(target: Path, total: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if total > free:
        raise SavedFileError(
            f"{target} takes {format_bytes(total)}, and its disk has {format_bytes(free)} left; "
            "nothing was written"
        )


def _sync_folder(folder: Path) -> None:
    """Make the new name last; where folders cannot be opened, the system does so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
