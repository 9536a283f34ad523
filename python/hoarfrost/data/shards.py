"""A folder of features: a manifest, shards of so many points each, and an index when all are there.

Each is a file of `hoarfrost.storage`, which is there whole or not at all. Any number of processes
may make the same folder: a shard that is there is not made again, and one that two make at a time
has the same bits from both. Every file carries the identity of the manifest, so that shards of two
networks are never taken for one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hoarfrost import storage
from hoarfrost.data.joined import JoinedRows
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.storage import reading

MANIFEST, INDEX = "manifest.safetensors", "index.safetensors"
_KINDS = {"manifest": "feature manifest", "shard": "feature shard", "index": "feature index"}

# Shards that are mapped at once, each of which takes a descriptor.
_MAPPED = 128

# After which a file that no process finished is given up.
_SECONDS = 3600

Header = dict[str, Any]


@dataclass(frozen=True)
class ShardFolder:
    """A folder, and the manifest that it has, or is to have.

    Attributes
    ----------
    path : Path
        The folder.
    header : dict
        Of its manifest.
    """

    path: Path
    header: Header

    @functools.cached_property
    def identity(self) -> str:
        """Of the manifest, which all files of the folder carry."""
        return hashlib.sha256(json.dumps(self.header, sort_keys=True).encode()).hexdigest()

    def begin(self) -> None:
        """Make the folder and its manifest, where they are not there.

        Raises
        ------
        InvalidArgumentError
            If another process made it for something else meanwhile.
        SavedFileError
            If it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SavedFileError(f"{self.path} cannot be made: {error.strerror}") from error
        target = self.path / MANIFEST
        if not target.exists():
            own = self.path / f".{MANIFEST}.{secrets.token_hex(8)}.tmp"
            storage.write(own, _KINDS["manifest"], self.header, {})
            try:
                # Unlike a replacement this fails where another process was first.
                with contextlib.suppress(FileExistsError):
                    os.link(own, target)
            except OSError:  # a file system without links
                os.replace(own, target)
            finally:
                with contextlib.suppress(OSError):
                    own.unlink()
        if _header_of(target, "manifest") != self.header:
            raise InvalidArgumentError(
                f"path {str(self.path)!r} was taken for other features by another process; give "
                "another folder"
            )

    def shard(self, index: int) -> Path:
        """Where a shard is, or will be."""
        return self.path / f"shard-{index:06d}.safetensors"

    def check(self, index: int, data: str | None = None) -> None:
        """Compare a shard that is there with its checksums, and with a digest of its data.

        Raises
        ------
        SavedFileError
            If it is damaged.
        InvalidArgumentError
            If it is of something else.
        """
        with self._opened(index, verify=True) as stored:
            if data is not None and stored.header.get("data") != data:
                raise InvalidArgumentError(
                    f"{stored.path} holds features of other data than the loader gives; give "
                    "another folder, or the loader that the folder was made with"
                )

    def write(self, index: int, columns: Mapping[str, np.ndarray], data: str) -> None:
        """Write a shard, whole or not at all; `data` is a digest of what it was made from."""
        header = {"folder": self.identity, "index": index, "data": data}
        storage.write(self.shard(index), _KINDS["shard"], header, columns)

    def finish(self, shards: Sequence[int], sizes: Sequence[int]) -> None:
        """Write the index: the points of each shard, and of each batch of the data."""
        header = {"folder": self.identity, "shards": len(shards)}
        arrays = {
            "shards": np.asarray(shards, np.int64),
            "batches": np.asarray(sizes, np.int64),
        }
        storage.write(self.path / INDEX, _KINDS["index"], header, arrays)
        self._sweep()

    def finished(self) -> tuple[list[int], list[int]] | None:
        """The points of all shards and batches; None where some are still to be made."""
        place = self.path / INDEX
        if not place.exists():
            return None
        with storage.opened(place, _KINDS["index"]) as stored:
            _check_folder(stored, self.identity)
            shards, sizes = (stored.array(name).tolist() for name in ("shards", "batches"))
        if not all(self.shard(index).exists() for index in range(len(shards))):
            return None
        return shards, sizes

    def columns(self, shards: Sequence[int]) -> dict[str, JoinedRows]:
        """All points by the names of their columns, mapped from the shards when they are used.

        Shards that are not too large in all are compared with their checksums now, others when they
        are first used.

        Raises
        ------
        SavedFileError
            If a shard is damaged, or ends before its last point.
        """
        reader = _Reader(self)
        names = reader.names()
        total = sum(self.shard(index).stat().st_size for index in range(len(shards)))
        for index in range(len(shards) if total <= reading.CHECKED else 0):
            reader.checked(index, shards[index])
        found = {}
        for name in names:
            first = reader.column(name, 0)
            part = _Part(reader, name)
            found[name] = JoinedRows(shards, first.shape[1:], first.dtype, part)
        return found

    @contextlib.contextmanager
    def _opened(self, index: int, *, verify: bool) -> Any:
        place = self.shard(index)
        try:
            with storage.opened(place, _KINDS["shard"], verify=verify) as stored:
                _check_folder(stored, self.identity, index)
                yield stored
        except SavedFileError as error:
            raise SavedFileError(
                f"{error}. Remove {place.name} and call hoarfrost.features with this path once "
                "more: that shard alone is made again"
            ) from error

    def _sweep(self) -> None:
        """Remove what processes that were killed have begun."""
        for place in self.path.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - place.stat().st_mtime > _SECONDS:
                    place.unlink()


def folder_at(path: Any) -> tuple[Path, Header | None]:
    """A user's folder, and the header of its manifest; None where it is empty, or not there.

    Raises
    ------
    InvalidArgumentError
        If it is no path, or holds something else.
    SavedFileError
        If its manifest is damaged.
    """
    folder = storage.as_path(path)
    if not folder.exists():
        return folder, None
    if not folder.is_dir():
        raise InvalidArgumentError(f"path {str(folder)!r} is a file; give a folder for the shards")
    if (folder / MANIFEST).exists():
        return folder, _header_of(folder / MANIFEST, "manifest")
    others = sorted(place.name for place in folder.iterdir() if not _is_begun(place.name))
    # Another process may have put its manifest there since.
    if others and not (folder / MANIFEST).exists():
        raise InvalidArgumentError(
            f"path {str(folder)!r} holds {others[0]!r}, and no features; give an empty or a new "
            "folder"
        )
    return folder, None


class _Reader:
    """The shards of a folder, the last ones used mapped; another process maps its own."""

    def __init__(self, folder: ShardFolder) -> None:
        self.folder = folder
        self._known: set[int] = set()
        self._columns = functools.lru_cache(_MAPPED)(self._mapped)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Reader, (self.folder,)

    def names(self) -> list[str]:
        return list(self._columns(0))

    def column(self, name: str, index: int) -> np.ndarray:
        found = self._columns(index).get(name)
        if found is None:
            raise SavedFileError(
                f"{self.folder.shard(index)} has no {name!r}, which the first shard has; remove it "
                "and call hoarfrost.features with this path once more"
            )
        return found

    def checked(self, index: int, points: int) -> None:
        """Raise unless a shard has so many points."""
        for name in self.names():
            found = len(self.column(name, index))
            if found != points:
                raise SavedFileError(
                    f"{self.folder.shard(index)} holds {found} points, and the index says {points};"
                    f" remove both and call hoarfrost.features with this path once more"
                )

    def _mapped(self, index: int) -> dict[str, np.ndarray]:
        with self.folder._opened(index, verify=index not in self._known) as stored:
            found = {name: stored.array(name) for name in stored.entries}
        self._known.add(index)
        return found


@dataclass(frozen=True)
class _Part:
    """A column of each shard."""

    reader: _Reader
    name: str

    def __call__(self, index: int) -> np.ndarray:
        return self.reader.column(self.name, index)


def _header_of(place: Path, kind: str) -> Header:
    with storage.opened(place, _KINDS[kind]) as stored:
        return stored.header


def _check_folder(stored: storage.StoredFile, identity: str, index: int | None = None) -> None:
    if stored.header.get("folder") != identity or stored.header.get("index") != index:
        raise InvalidArgumentError(
            f"{stored.path} belongs to other features than the manifest beside it; give another "
            "folder, or remove that file"
        )


def _is_begun(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")
