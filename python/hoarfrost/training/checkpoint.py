"""Checkpoints on disk, and the only file that knows Orbax.

A checkpoint is a folder ``<method>_<number>_step_<step>`` of its own, with ``header.json`` (format,
version, method, what the trees are, a digest of every file of arrays), ``arrays``, a checkpoint of
Orbax, and now and then one more file, which its writer looks after. It is written under another
name and renamed when all of it is on the disk: what has its name is whole. Numbers rise in a
folder: the largest is the newest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import CheckpointAccessError, CheckpointError, HoarfrostError
from hoarfrost.fork import check_not_forked
from hoarfrost.network.nested import by_path, nested
from hoarfrost.training.stored_tree import (
    described,
    rebuilt,
    warn_of_narrow_numbers,
)
from hoarfrost.types import Path as Names
from hoarfrost.types import Tree

FORMAT, VERSION = "hoarfrost checkpoint", 1
HEADER, ARRAYS, POSTERIOR = "header.json", "arrays", "posterior.safetensors"
# The trees that something is computed of; what was recorded may be in float64 anywhere.
COMPUTED = ("params", "mutable", "calib_params", "opt_state", "best", "variables")
_UNFINISHED = ".hoarfrost_unfinished_"
_ONE_AT_A_TIME = threading.Lock()
_NAME = re.compile(r"([a-z_]+)_([0-9]+)_step_([0-9]+)")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    path : Path
        Its folder.
    method : str
        What wrote it: "map", "laplace", "calibration".
    facts : dict
        Numbers and words: "step" at least.
    trees : dict of str to tree
        Trees of arrays.
    """

    path: Path
    method: str
    facts: dict[str, Any]
    trees: dict[str, Tree]


def prepare(folder: str) -> None:
    """Make the folder of checkpoints, if it is not there.

    Raises
    ------
    CheckpointAccessError
        If it cannot be made, or nothing can be written into it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise CheckpointAccessError(
            f"the folder for checkpoints {folder} cannot be made: {error}"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointAccessError(
            f"nothing can be written into the folder for checkpoints {folder}; give another one"
        )


def save(
    folder: str,
    method: str,
    trees: Mapping[str, Tree],
    facts: Mapping[str, Any],
    keep: int,
    beside: Callable[[Path], None] | None = None,
) -> Path:
    """Write a checkpoint, and then remove all but the newest `keep` of this method.

    Nothing else in the folder is touched. Whatever goes wrong, the checkpoints that were there are
    there still.

    Parameters
    ----------
    folder : str
        Absolute.
    method, trees, facts
        As in `Checkpoint`.
    keep : int
        At least 1.
    beside : callable, optional
        Writes one more file, whose path it is given.

    Raises
    ------
    CheckpointError
        If a tree holds what a checkpoint cannot.
    CheckpointAccessError
        If it cannot be written.
    """
    check_not_forked("a checkpoint")
    arrays: dict[Names, np.ndarray] = {}
    structures = {name: described(tree, name, arrays) for name, tree in trees.items()}
    try:
        with _unfinished(folder) as place:
            if arrays:
                _write_arrays(place / ARRAYS, nested(arrays))
            if beside is not None:
                beside(place / POSTERIOR)
            header = {
                "format": FORMAT,
                "version": VERSION,
                "method": method,
                "facts": dict(facts),
                "trees": structures,
                "files": _digests(place / ARRAYS),
            }
            header["digest"] = _digest_of_header(header)
            (place / HEADER).write_text(json.dumps(header), encoding="utf-8")
            _to_disk(place)
            path = _publish(place, folder, method, facts["step"])
        _remove_old(folder, method, keep)
    except HoarfrostError:
        raise
    except Exception as error:  # Orbax and tensorstore raise what they like
        raise CheckpointAccessError(
            f"the checkpoint could not be written into {folder}: {error}; those that were there "
            "are as they were"
        ) from error
    return path


def load(path: str, methods: Collection[str]) -> Checkpoint:
    """The checkpoint at a path, or the newest in a folder, of one of these methods.

    Raises
    ------
    CheckpointAccessError
        If there is none, or it cannot be read.
    CheckpointError
        If it is damaged, of a newer version or of another method.
    """
    check_not_forked("a checkpoint")
    place = find(path, methods)
    header = _header(place)
    if header["method"] not in methods:
        raise CheckpointError(
            f"{place} is a checkpoint of the method {header['method']!r}; what is loaded here is "
            f"one of {' or '.join(map(repr, methods))}"
        )
    try:
        if header["files"] != _digests(place / ARRAYS):
            raise _damaged(place, "its arrays are not those that were written")
        arrays = by_path(_read_arrays(place / ARRAYS, header["trees"]))
        trees = {name: rebuilt(node, arrays) for name, node in header["trees"].items()}
    except OSError as error:
        raise CheckpointAccessError(f"{place} cannot be read: {error}") from error
    except HoarfrostError:
        raise
    except Exception as error:  # Orbax and tensorstore raise what they like
        raise _damaged(place, str(error)) from error
    warn_of_narrow_numbers([tree for name, tree in trees.items() if name in COMPUTED], str(place))
    return Checkpoint(place, header["method"], header["facts"], trees)


def find(path: str, methods: Collection[str]) -> Path:
    """The folder of the checkpoint that `load` reads."""
    place = Path(path)
    if not place.exists():
        raise CheckpointAccessError(f"there is nothing at {place}; give a checkpoint or its folder")
    if (place / HEADER).is_file():
        return place
    if not place.is_dir():
        raise CheckpointError(f"{place} is no checkpoint of Hoarfrost, which is a folder")
    found = _checkpoints(path)
    fitting = [one for one in found if one.method in methods]
    if not fitting:
        others = ", ".join(one.path.name for one in found[:5])
        raise CheckpointAccessError(
            f"{place} holds no checkpoint of {' or '.join(map(repr, methods))}"
            + (f", but {others}" if others else "")
            + "; give a checkpoint, or a folder of them, that save_state or save_checkpoint_dir "
            "wrote (parameters from elsewhere go into load_params)"
        )
    return fitting[-1].path


@dataclass(frozen=True)
class _Found:
    """A folder with the name of a checkpoint and a header."""

    path: Path
    method: str
    number: int


def _checkpoints(folder: str) -> list[_Found]:
    """All in a folder, the newest last."""
    found = []
    for name in os.listdir(folder):
        match = _NAME.fullmatch(name)
        place = Path(folder, name)
        if match and (place / HEADER).is_file() and not place.is_symlink():
            found.append(_Found(place, match[1], int(match[2])))
    return sorted(found, key=lambda one: one.number)


def _header(place: Path) -> dict[str, Any]:
    try:
        text = (place / HEADER).read_bytes()
    except OSError as error:
        raise CheckpointAccessError(f"{place} cannot be read: {error}") from error
    try:
        header = json.loads(text)
        is_ours = header["format"] == FORMAT
        version = header["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(place, f"its header cannot be read ({error})") from error
    if not is_ours:
        raise CheckpointError(f"{place} is no checkpoint of Hoarfrost")
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{place} was written by a newer Hoarfrost (version {version} of the format; this one "
            f"reads {VERSION}); update Hoarfrost"
        )
    if header.pop("digest", None) != _digest_of_header(header):
        raise _damaged(place, "its header is not what was written")
    found: dict[str, Any] = header
    return found


def _damaged(place: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {place} is damaged: {how}; give the path of another one"
    )


def _digest_of_header(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """Of every file below a folder, by its path there."""
    found = {}
    for file in sorted(_files(folder)):
        with file.open("rb") as opened:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(
                opened, "sha256"
            ).hexdigest()
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


@contextlib.contextmanager
def _unfinished(folder: str) -> Iterator[Path]:
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


def _to_disk(place: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for path in (*_files(place), *(Path(folder) for folder, _, _ in os.walk(place))):
        _flush(path)


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _publish(place: Path, folder: str, method: str, step: int) -> Path:
    """Give a whole checkpoint its name."""
    number = max((one.number for one in _checkpoints(folder)), default=0)
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


def _remove_old(folder: str, method: str, keep: int) -> None:
    """Remove all but the newest of a method; one in which somebody put something else stays."""
    for old in [one for one in _checkpoints(folder) if one.method == method][:-keep]:
        with contextlib.suppress(FileNotFoundError):  # another writer was faster
            if set(os.listdir(old.path)) <= {HEADER, ARRAYS, POSTERIOR}:
                # By another name first: what has the name of a checkpoint is whole.
                gone = Path(folder, _UNFINISHED + secrets.token_hex(8))
                old.path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    # What Python's filter of warnings was comes back only if nobody else changes it meanwhile.
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # More than a second: only where a checkpoint is written or read.
        import orbax.checkpoint

        yield orbax.checkpoint


def _write_arrays(place: Path, arrays: Tree) -> None:
    with _orbax() as ocp, ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
        writer.save(place, args=ocp.args.PyTreeSave(arrays))


def _read_arrays(place: Path, structures: Mapping[str, Any]) -> Tree:
    """The arrays, NumPy's, of the leaves that are described."""
    names = [name for node in structures.values() for name in _stored(node)]
    if not names:
        return {}
    like = nested(dict.fromkeys(names, 0))
    with _orbax() as ocp, ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        return reader.restore(place, args=ocp.args.PyTreeRestore(item=like, restore_args=kinds))


def _stored(node: Any) -> Iterator[Names]:
    if node is None:
        return
    if "leaf" in node:
        if 0 not in node["shape"]:
            yield tuple(node["leaf"])
        return
    for kind in ("list", "tuple"):
        for item in node.get(kind, ()):
            yield from _stored(item)
    for _, item in node.get("dict", ()):
        yield from _stored(item)
