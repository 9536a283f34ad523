"""The container of arrays and a header: exact, whole or not there, and nothing wrong in silence."""

import json
import os
import stat

import ml_dtypes
import numpy as np
import pytest

from hoarfrost import storage
from hoarfrost.errors import InvalidArgumentError, SavedFileError
from hoarfrost.storage import Pieces, container, reading, writing

ARRAYS = {
    "a": np.arange(12.0).reshape(3, 4),
    "b": np.asarray([1, 2], ">i4"),
    "none": np.zeros((0, 3), np.float32),
    "number": np.float64(np.pi),
    "half": np.asarray([1.5, -2.0], ml_dtypes.bfloat16),
    "yes": np.asarray([True, False]),
    "column": np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::2],
}


def _written(path, header=None, arrays=ARRAYS):
    storage.write(path, "test", {"x": 0.1, "n": 2**60} if header is None else header, arrays)
    return path


def test_everything_comes_back_with_its_bits(tmp_path):
    path = _written(tmp_path / "file")
    with storage.opened(path, "test") as stored:
        assert stored.header == {"x": 0.1, "n": 2**60}
        found = {name: stored.array(name) for name in ARRAYS}
    for name, array in ARRAYS.items():
        array = np.asarray(array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


def test_pieces_are_written_without_a_copy_of_the_whole(tmp_path):
    values = np.random.default_rng(0).normal(size=3_000_000)
    longest = []

    def read(start, stop):
        longest.append(stop - start)
        return values[start:stop].copy()

    _written(tmp_path / "file", arrays={"v": Pieces(len(values), read)})
    assert max(longest) * 8 <= 2**23
    with storage.opened(tmp_path / "file", "test") as stored:
        start, length = stored.place("v")
        np.testing.assert_array_equal(stored.array("v"), values)
    assert start % 4096 == 0 and length == len(values)


def test_other_readers_of_the_format_read_it(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {name: array for name, array in ARRAYS.items() if name != "half"}
    path = _written(tmp_path / "file", arrays=arrays)
    found = safetensors.load_file(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_header_is_plain_json(tmp_path):
    raw = _written(tmp_path / "file").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % 4096 == 0
    assert header["a"]["dtype"] == "F64" and header["a"]["shape"] == [3, 4]
    assert json.loads(header["__metadata__"]["hoarfrost"])["version"] == storage.VERSION


def test_every_changed_byte_of_the_header_is_noticed(tmp_path):
    path = _written(tmp_path / "file", arrays={"a": np.arange(3.0)})
    raw = path.read_bytes()
    end = raw.index(b"  ") + 40  # padding is all alike
    for place in [*range(end), 4095]:
        for flipped in (1, 0x20, 0x80):
            changed = bytearray(raw)
            changed[place] ^= flipped
            path.write_bytes(changed)
            with pytest.raises(SavedFileError), storage.opened(path, "test"):
                pass


def test_every_truncation_is_noticed(tmp_path):
    path = _written(tmp_path / "file")
    raw = path.read_bytes()
    for length in np.random.default_rng(0).integers(0, len(raw), 200):
        path.write_bytes(raw[:length])
        with pytest.raises(SavedFileError), storage.opened(path, "test"):
            pass
    path.write_bytes(raw + b"\0")
    with pytest.raises(SavedFileError, match="bytes"), storage.opened(path, "test"):
        pass


def test_changed_contents_are_noticed(tmp_path, monkeypatch):
    path = _written(tmp_path / "file")
    raw = path.read_bytes()
    for place in range(4096, len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(SavedFileError, match="changed"), storage.opened(path, "test"):
            pass
    # Beyond a size the small arrays alone are compared, and all on request.
    big = _written(tmp_path / "big", arrays={"big": np.zeros(2**18), "small": np.ones(2)})
    monkeypatch.setattr(reading, "CHECKED", 2**20)
    raw = bytearray(big.read_bytes())
    raw[5000] ^= 1
    big.write_bytes(raw)
    with storage.opened(big, "test") as stored, pytest.raises(SavedFileError, match="big"):
        stored.check("big")
    with pytest.raises(SavedFileError, match="big"), storage.opened(big, "test", verify=True):
        pass
    raw[-1] ^= 1
    big.write_bytes(raw)
    with pytest.raises(SavedFileError, match="small"), storage.opened(big, "test"):
        pass


@pytest.mark.parametrize("why", ["missing", "folder", "text", "empty", "newer", "kind"])
def test_what_cannot_be_opened_says_why(tmp_path, why, monkeypatch):
    path = tmp_path / "file"
    if why == "folder":
        path.mkdir()
    elif why in ("text", "empty"):
        path.write_text("no header at all" if why == "text" else "")
    elif why == "newer":
        monkeypatch.setattr(container, "VERSION", 2)
        _written(path)
        monkeypatch.setattr(container, "VERSION", 1)
    elif why == "kind":
        storage.write(path, "other", {}, {})
    words = {"newer": "newer", "kind": "other file", "missing": "cannot be opened"}
    with (
        pytest.raises(SavedFileError, match=words.get(why, "cannot|no file|no header")),
        storage.opened(path, "test"),
    ):
        pass


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = _written(tmp_path / "file")
    old = path.read_bytes()

    def broken(start, stop):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _written(path, arrays={"v": Pieces(10, broken)})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SavedFileError, match="No space left"):
        _written(path, header={"new": 1})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_room_is_told_before_the_work(tmp_path, monkeypatch):
    full = writing.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: full)
    read = []
    with pytest.raises(SavedFileError, match="100 B"):
        _written(tmp_path / "file", arrays={"v": Pieces(1000, lambda *at: read.append(at))})
    assert not read and not list(tmp_path.iterdir())


def test_nothing_of_somebody_else_is_replaced(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    storage.write(tmp_path / "other", "other", {}, {})
    _written(tmp_path / ("a" * 250))  # as long as a name may be, nearly
    long = tmp_path / ("a" * 300)
    for where in (path, tmp_path / "other", tmp_path, tmp_path / "no folder" / "file", long):
        with pytest.raises(InvalidArgumentError, match="path"):
            _written(where)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("path", [None, 3, b"bytes", "", "a\0b"], ids=repr)
def test_no_paths(path):
    with pytest.raises(InvalidArgumentError, match="path is"):
        storage.write(path, "test", {}, {})
    with pytest.raises(InvalidArgumentError, match="path is"), storage.opened(path, "test"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_the_mode_is_what_the_umask_leaves(tmp_path):
    old = os.umask(0o027)
    try:
        path = _written(tmp_path / "file")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_relative_path_is_where_it_was_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _written("file")
    with storage.opened("file", "test") as stored:
        assert stored.path == tmp_path / "file"


def test_dtypes_without_a_name_are_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="complex128"):
        _written(tmp_path / "file", arrays={"z": np.zeros(2, complex)})


def test_a_digest_tells_names_dtypes_shapes_and_bits(tmp_path):
    one = storage.digest({"a": np.zeros(4), "b": np.ones(1)})
    others = [
        {"b": np.zeros(4), "a": np.ones(1)},
        {"a": np.zeros(4, np.int64), "b": np.ones(1)},
        {"a": np.zeros((2, 2)), "b": np.ones(1)},
        {"a": -np.zeros(4), "b": np.ones(1)},
    ]
    assert one == storage.digest({"b": np.ones(1), "a": np.zeros(4)})
    assert len({one, *map(storage.digest, others)}) == 5
