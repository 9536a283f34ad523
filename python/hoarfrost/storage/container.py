"""The format of a file: a header, in JSON and with checksums, and arrays.

The file is eight bytes of length, a JSON header, and the arrays one after the other. The header's
``__metadata__`` has one entry, ``hoarfrost``, in which everything else is JSON: the kind of file,
its version, a checksum of the header, one of each array, and the header that the writer gave. Any
reader of safetensors can look into it; nothing in it is code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.types import Array

VERSION = 1

# Where the first array begins: a multiple of a page, so that what is mapped is aligned.
PAGE = 4096

# Bytes of an array that are handled at once, and a header beyond which a file is none of ours.
AT_ONCE, LONGEST_HEADER = 2**23, 2**30

# In the place of a checksum that is still to be made.
NO_SUM = "0" * 64

DTYPES = {
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
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Pieces:
    """An array that its owner gives out in parts.

    Attributes
    ----------
    length : int
        How many numbers it has.
    read : callable (start, stop) -> array
        Some of them, in one axis.
    dtype : dtype
        Of what `read` gives.
    shape : tuple of int, optional
        Of the array; by default it has one axis.
    """

    length: int
    read: Callable[[int, int], Array]
    dtype: Any = np.float64
    shape: tuple[int, ...] | None = None


class Source:
    """An array on its way to a file, in pieces of little-endian bytes."""

    def __init__(self, value: Array | Pieces) -> None:
        self.value = value
        self.shape: tuple[int, ...]
        if isinstance(value, Pieces):
            self.dtype = np.dtype(value.dtype)
            self.shape = (value.length,) if value.shape is None else value.shape
        else:
            self.value = value = np.ascontiguousarray(value).reshape(np.shape(value))
            self.dtype, self.shape = value.dtype.newbyteorder("="), value.shape
        if self.dtype not in NAMES:
            raise InvalidArgumentError(
                f"an array of dtype {self.dtype} cannot be saved; the file has dtypes "
                f"{', '.join(np.dtype(one).name for one in DTYPES.values())}"
            )
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def pieces(self) -> Iterator[memoryview]:
        """Its bytes, a few million at a time."""
        value, step = self.value, AT_ONCE // self.dtype.itemsize
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


def native(raw: Any, dtype: np.dtype[Any]) -> Array:
    """Values of little-endian bytes; on a machine of that order without a copy."""
    own = np.dtype(np.uint16) if dtype == ml_dtypes.bfloat16 else dtype
    values = np.frombuffer(raw, own.newbyteorder("<")).astype(own, copy=False)
    return values.view(dtype) if values.dtype != dtype else values


def digest(arrays: Mapping[str, Array]) -> str:
    """One checksum of named arrays, by name, dtype, shape and bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        source = Source(arrays[name])
        found.update(repr((name, source.dtype.name, source.shape)).encode())
        for piece in source.pieces():
            found.update(piece)
    return found.hexdigest()


def head_of(
    kind: str,
    header: Mapping[str, Any],
    entries: Mapping[str, Any],
    sums: Mapping[str, str],
) -> bytes:
    """The length and the header, padded, with the checksum of both in it."""
    own = {"kind": kind, "version": VERSION, "sha256": NO_SUM, "arrays": sums, "header": header}
    text = json.dumps({"__metadata__": {"hoarfrost": json.dumps(own)}, **entries}).encode()
    length = -(-(8 + len(text)) // PAGE) * PAGE - 8
    whole = length.to_bytes(8, "little") + text.ljust(length)
    found = hashlib.sha256(whole).hexdigest()
    return whole.replace(NO_SUM.encode(), found.encode(), 1)


def header_text(path: Path, file: BinaryIO) -> bytes:
    """The header of a file that was just opened, padding and all.

    Raises
    ------
    SavedFileError
        If there is none.
    """
    first = file.read(8)
    length = int.from_bytes(first, "little")
    size = os.fstat(file.fileno()).st_size
    if len(first) < 8 or length > min(LONGEST_HEADER, size - 8):
        raise damaged(path, "it has no header")
    text = file.read(length)
    if len(text) < length:
        raise damaged(path, "it ends within its header")
    return text


def kind_of(path: Path) -> str | None:
    """The kind that a file says it is; None where it is none of Hoarfrost's."""
    try:
        with path.open("rb") as file:
            found = json.loads(header_text(path, file))["__metadata__"]["hoarfrost"]
            return str(json.loads(found)["kind"])
    except (OSError, SavedFileError, ValueError, KeyError, TypeError, RecursionError):
        return None


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


def damaged(path: Path, why: str) -> SavedFileError:
    """What is raised of a file that is not as it was written."""
    return SavedFileError(f"{path} is damaged: {why}; write it again, or take another copy")
