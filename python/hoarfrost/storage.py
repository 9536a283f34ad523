"""Arrays and a header in one file of the safetensors format.

The file is eight bytes of length, a JSON header, and the arrays one after the other. The header's
``__metadata__`` has one entry, ``hoarfrost``, in which everything else is JSON: the kind of file,
its version, a checksum of the header, one of each array, and the header that the writer gave. Any
reader of safetensors can look into it; nothing in it is code.

A file is written beside its place and put there whole. Large arrays come from the writer in pieces,
so that no second copy of them is made, and are mapped by the reader.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.memory import format_bytes
from hoarfrost.types import Array

VERSION = 1

# Where the first array begins: a multiple of a page, so that what is mapped is aligned.
_PAGE = 4096

# Bytes of an array that are handled at once, and a header beyond which a file is none of ours.
_AT_ONCE, _LONGEST_HEADER = 2**23, 2**30

# Contents up to this size are compared with their checksums whenever a file is opened.
CHECKED = 2**30

_NO_SUM = "0" * 64

_NAMES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_DTYPES = {np.dtype(dtype): name for name, dtype in _NAMES.items()}


@dataclass(frozen=True)
class Pieces:
    """An array that its owner gives out in parts: ``read(start, stop)`` of `length` float64."""

    length: int
    read: Callable[[int, int], Array]


@dataclass(frozen=True)
class _Entry:
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
    entries: dict[str, _Entry]
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
            raise _damaged(self.path, f"the array {name!r} is missing")
        raw = self._map[entry.start : entry.stop]
        return _native(raw, entry.dtype).reshape(entry.shape)

    def place(self, name: str) -> tuple[int, int]:
        """Where an array of float64 begins in the file, and how many numbers it holds."""
        values = self.array(name)
        if values.dtype != np.float64:
            raise _damaged(self.path, f"the array {name!r} is of {values.dtype}, not float64")
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
            for start in range(entry.start, entry.stop, _AT_ONCE):
                found.update(self._map[start : min(start + _AT_ONCE, entry.stop)])
            if found.hexdigest() != self.sums.get(name):
                raise _damaged(self.path, f"the array {name!r} was changed")

    def descriptor(self) -> int:
        """What the core opens the file by."""
        descriptor = self.file.fileno()
        if os.name == "nt":
            import msvcrt

            descriptor = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined]
        return descriptor


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
    named = {name: _Source(value) for name, value in arrays.items()}
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


def as_path(path: Any) -> Path:
    """A user's path.

    Raises
    ------
    InvalidArgumentError
        If it is none.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError(f"path is {shown(path)}; give the path of a file")
    return Path(text).absolute()


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


def kind_of(path: Path) -> str | None:
    """The kind that a file says it is; None where it is none of Hoarfrost's."""
    try:
        with path.open("rb") as file:
            found = json.loads(_text(path, file))["__metadata__"]["hoarfrost"]
            return str(json.loads(found)["kind"])
    except (OSError, SavedFileError, ValueError, KeyError, TypeError, RecursionError):
        return None


def digest(arrays: Mapping[str, Array]) -> str:
    """One checksum of named arrays, by name, dtype, shape and bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        source = _Source(arrays[name])
        found.update(repr((name, source.dtype.name, source.shape)).encode())
        for piece in source.pieces():
            found.update(piece)
    return found.hexdigest()


class _Source:
    """An array on its way to a file, in pieces of little-endian bytes."""

    def __init__(self, value: Array | Pieces) -> None:
        self.value = value
        self.shape: tuple[int, ...]
        if isinstance(value, Pieces):
            self.dtype, self.shape = np.dtype(np.float64), (value.length,)
        else:
            self.value = value = np.ascontiguousarray(value).reshape(np.shape(value))
            self.dtype, self.shape = value.dtype.newbyteorder("="), value.shape
        if self.dtype not in _DTYPES:
            raise InvalidArgumentError(
                f"an array of dtype {self.dtype} cannot be saved; the file has dtypes "
                f"{', '.join(np.dtype(one).name for one in _NAMES.values())}"
            )
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def pieces(self) -> Iterator[memoryview]:
        value, step = self.value, _AT_ONCE // self.dtype.itemsize
        if isinstance(value, Pieces):
            for start in range(0, value.length, step):
                yield _bytes(value.read(start, min(start + step, value.length)))
            return
        flat = value.reshape(-1)
        for start in range(0, flat.size, step):
            yield _bytes(flat[start : start + step])


def _bytes(values: Array) -> memoryview:
    """The bytes of values, little-endian."""
    if values.dtype == ml_dtypes.bfloat16:
        values = values.view(np.uint16)  # a dtype without byte order
    if values.dtype.itemsize > 1:
        values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return memoryview(values.view(np.uint8))


def _native(raw: Any, dtype: np.dtype[Any]) -> Array:
    """Values of little-endian bytes; on a machine of that order without a copy."""
    own = np.dtype(np.uint16) if dtype == ml_dtypes.bfloat16 else dtype
    values = np.frombuffer(raw, own.newbyteorder("<")).astype(own, copy=False)
    return values.view(dtype) if values.dtype != dtype else values


def _write_new(
    path: Path, kind: str, header: Mapping[str, Any], sources: Mapping[str, _Source]
) -> None:
    entries, end = {}, 0
    for name, source in sources.items():
        shape = list(source.shape)
        offsets = [end, end + source.nbytes]
        entries[name] = {"dtype": _DTYPES[source.dtype], "shape": shape, "data_offsets": offsets}
        end += source.nbytes
    sums = dict.fromkeys(sources, _NO_SUM)
    place = _head(kind, header, entries, sums)  # as long as it will be
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
        file.write(_head(kind, header, entries, sums))
        file.flush()
        os.fsync(file.fileno())


def _head(
    kind: str,
    header: Mapping[str, Any],
    entries: Mapping[str, Any],
    sums: Mapping[str, str],
) -> bytes:
    """The length and the header, padded, with the checksum of both in it."""
    own = {"kind": kind, "version": VERSION, "sha256": _NO_SUM, "arrays": sums, "header": header}
    text = json.dumps({"__metadata__": {"hoarfrost": json.dumps(own)}, **entries}).encode()
    length = -(-(8 + len(text)) // _PAGE) * _PAGE - 8
    whole = length.to_bytes(8, "little") + text.ljust(length)
    found = hashlib.sha256(whole).hexdigest()
    return whole.replace(_NO_SUM.encode(), found.encode(), 1)


def _text(path: Path, file: BinaryIO) -> bytes:
    first = file.read(8)
    length = int.from_bytes(first, "little")
    size = os.fstat(file.fileno()).st_size
    if len(first) < 8 or length > min(_LONGEST_HEADER, size - 8):
        raise _damaged(path, "it has no header")
    text = file.read(length)
    if len(text) < length:
        raise _damaged(path, "it ends within its header")
    return text


def _read(path: Path, file: BinaryIO, kind: str) -> StoredFile:
    text = _text(path, file)
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
    plain = text.replace(str(known).encode(), _NO_SUM.encode(), 1)
    if hashlib.sha256(len(text).to_bytes(8, "little") + plain).hexdigest() != known:
        raise _damaged(path, "its header was changed")
    if found != kind:
        raise SavedFileError(f"{path} is a {found} file of Hoarfrost's, not a {kind} file")
    entries = {}
    for name, entry in whole.items():
        first, last = entry["data_offsets"]
        dtype = np.dtype(_NAMES[entry["dtype"]])
        entries[name] = _Entry(dtype, tuple(entry["shape"]), start + first, start + last)
    end = max((entry.stop for entry in entries.values()), default=start)
    size = os.fstat(file.fileno()).st_size
    if size != end:
        raise _damaged(path, f"it holds {size} bytes, not {end}")
    mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return StoredFile(path, own["header"], file, entries, own["arrays"], mapped)


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


def _damaged(path: Path, why: str) -> SavedFileError:
    return SavedFileError(f"{path} is damaged: {why}; write it again, or take another copy")
