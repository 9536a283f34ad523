"""Checkpoints on disk, and the only file that knows Orbax.

A checkpoint is a folder ``<method>_<number>_step_<step>`` of its own, with ``header.json`` (format,
version, method, what the trees are, a digest of every file of arrays), ``arrays``, a checkpoint of
Orbax, and now and then one more file, which its writer looks after. `checkpoint_folder` sees to it
that what has its name is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
from hoarfrost.training.checkpoint_folder import (
    ARRAYS,
    HEADER,
    POSTERIOR,
    checkpoints,
    files_below,
    publish,
    remove_old,
    to_disk,
    unfinished,
)
from hoarfrost.training.stored_tree import (
    described,
    rebuilt,
    warn_of_narrow_numbers,
)
from hoarfrost.types import Path as Names
from hoarfrost.types import Tree

FORMAT, VERSION = "hoarfrost checkpoint", 1
# The trees that something is computed of; what was recorded may be in float64 anywhere.
COMPUTED = ("params", "mutable", "calib_params", "opt_state", "best", "variables")
_ONE_AT_A_TIME = threading.Lock()


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
        with unfinished(folder) as place:
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
            to_disk(place)
            path = publish(place, folder, method, facts["step"])
        remove_old(folder, method, keep)
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
    found = checkpoints(path)
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
    for file in sorted(files_below(folder)):
        with file.open("rb") as opened:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(
                opened, "sha256"
            ).hexdigest()
    return found


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
