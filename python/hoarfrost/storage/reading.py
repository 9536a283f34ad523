"""Files that are checked when they are opened, and mapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hoarfrost.errors import SavedFileError
from hoarfrost.storage.container import (
    AT_ONCE,
    DTYPES,
    NO_SUM,
    VERSION,
    as_path,
    damaged,
    header_text,
    native,
)
from hoarfrost.types import Array

# Contents up to this size are compared with their checksums whenever a file is opened.
CHECKED = 2**30


@dataclass(frozen=True)
class Entry:
    """An array's dtype and shape, and its first and last byte in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class StoredFile:
    """A file that is open for reading.

    Attributes
    ----------
    path : Path
        Where it was.
    header : dict
        What its writer gave.
    """

    path: Path
    header: dict[str, Any]
    file: BinaryIO
    entries: dict[str, Entry]
    sums: dict[str, str]
    _map: Any = field(repr=False)

    def array(self, name: str) -> Array:
        """An array, mapped and read-only.

        Raises
        ------
        SavedFileError
            If there is none of that name.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise damaged(self.path, f"the array {name!r} is missing")
        raw = self._map[entry.start : entry.stop]
        return native(raw, entry.dtype).reshape(entry.shape)

    def place(self, name: str) -> tuple[int, int]:
        """Where an array of float64 begins in the file, and how many numbers it holds."""
        values = self.array(name)
        if values.dtype != np.float64:
            raise damaged(self.path, f"the array {name!r} is of {values.dtype}, not float64")
        return self.entries[name].start, values.size

    def check(self, *names: str) -> None:
        """Compare arrays (by default all) with their checksums.

        Raises
        ------
        SavedFileError
            If one was changed.
        """
        for name in names or self.entries:
            entry = self.entries[name]
            found = hashlib.sha256()
            for start in range(entry.start, entry.stop, AT_ONCE):
                found.update(self._map[start : min(start + AT_ONCE, entry.stop)])
            if found.hexdigest() != self.sums.get(name):
                raise damaged(self.path, f"the array {name!r} was changed")

    def descriptor(self) -> int:
        """What the core opens the file by."""
        descriptor = self.file.fileno()
        if os.name == "nt":
            import msvcrt

            descriptor = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined]
        return descriptor


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], kind: str, *, verify: bool | None = None
) -> Iterator[StoredFile]:
    """A file of a kind, checked; what is mapped of it stays when the context ends.

    Parameters
    ----------
    path : str or path
        The file.
    kind : str
        What it must be.
    verify : bool, optional
        Whether all arrays are compared with their checksums, which reads them; by default those of
        files of up to 1 GiB, and of larger ones the small arrays.

    Raises
    ------
    InvalidArgumentError
        If `path` is no path.
    SavedFileError
        If there is no such file, or it is damaged, of a newer version or of another kind.
    """
    where = as_path(path)
    try:
        if where.exists() and not where.is_file():
            raise SavedFileError(f"{where} cannot be opened: it is no file")
        file = where.open("rb")
    except OSError as error:
        raise SavedFileError(f"{where} cannot be opened: {error.strerror or error}") from error
    with file:
        try:
            stored = _read(where, file, kind)
        except OSError as error:
            raise SavedFileError(f"{where} cannot be read: {error.strerror or error}") from error
        sizes = {name: entry.stop - entry.start for name, entry in stored.entries.items()}
        everything = sum(sizes.values()) <= CHECKED if verify is None else verify
        names = [name for name, size in sizes.items() if everything or size <= 2**20]
        if names:
            stored.check(*names)
        yield stored


def _read(path: Path, file: BinaryIO, kind: str) -> StoredFile:
    text = header_text(path, file)
    try:
        whole = json.loads(text)
        own = json.loads(whole.pop("__metadata__")["hoarfrost"])
        found, version, known = own["kind"], own["version"], own["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SavedFileError(f"{path} is no file of Hoarfrost's, or it is damaged") from error
    if isinstance(version, int) and version > VERSION:
        raise SavedFileError(
            f"{path} is of version {version}, and this Hoarfrost reads versions up to {VERSION}; "
            "install a newer one"
        )
    start = 8 + len(text)
    plain = text.replace(str(known).encode(), NO_SUM.encode(), 1)
    if hashlib.sha256(len(text).to_bytes(8, "little") + plain).hexdigest() != known:
        raise damaged(path, "its header was changed")
    if found != kind:
        raise SavedFileError(f"{path} is a {found} file of Hoarfrost's, not a {kind} file")
    entries = {}
    for name, entry in whole.items():
        first, last = entry["data_offsets"]
        dtype = np.dtype(DTYPES[entry["dtype"]])
        entries[name] = Entry(dtype, tuple(entry["shape"]), start + first, start + last)
    end = max((entry.stop for entry in entries.values()), default=start)
    size = os.fstat(file.fileno()).st_size
    if size != end:
        raise damaged(path, f"it holds {size} bytes, not {end}")
    mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return StoredFile(path, own["header"], file, entries, own["arrays"], mapped)
