"""A folder of features: whole shards, what else is in it, what damages it, and who may go on."""

from __future__ import annotations

import functools
import json
import os
import pickle
import stat
import threading

import jax
import numpy as np
import pytest
import token_problems as tokens
from feature_cases import X_NEW, Y_NEW, Counted, N, Net, X, Y, loader, near, variables
from test_features import FUNCTION, MODELS, SKIP, of_function, with_skip

import hoarfrost
from hoarfrost import storage
from hoarfrost.curvature import feature_store
from hoarfrost.data import DataLoader
from hoarfrost.errors import HoarfrostError, InvalidArgumentError, SavedFileError
from hoarfrost.storage import reading

features = functools.partial(hoarfrost.features, progress=False)
fit = functools.partial(hoarfrost.fit_laplace, trainable="last_layer", progress=False)
SHARD = 12  # points


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_store, "_AT_ONCE", SHARD * 4 * 6)


def contents(folder):
    return {place.name: place.read_bytes() for place in folder.iterdir()}


def same(ours, known):
    for one, other in zip(ours, known, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("case", MODELS)
def test_shards_hold_the_same_bits_as_memory(case, tmp_path):
    model, params, trainable = MODELS[case]
    known = features(model, params, loader(batch_size=4), trainable)
    for _ in range(2):  # made, then found
        store = features(model, params, loader(batch_size=4), trainable, tmp_path / "f")
        same(store, known)
        assert len(store) == len(known) and store.size == N
    near(
        fit(model, params, store, trainable=trainable).variance(),
        fit(model, params, loader(batch_size=4), trainable=trainable).variance(),
    )


@pytest.mark.parametrize("batch_size", [None, 4, 7, 20], ids=str)
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
def test_batches_and_orders_are_those_of_the_data(batch_size, shuffle, tmp_path):
    data = loader(batch_size=batch_size, shuffle=shuffle, seed=5)
    known = features(Net(), variables(), data)
    store = features(Net(), variables(), data, path=tmp_path)
    for epoch in range(2):
        same(store.epoch(epoch), known.epoch(epoch))
    same(store.sample(1, 9), known.sample(1, 9))
    same(store.split(20)[1], known.split(20)[1])
    same(pickle.loads(pickle.dumps(store)), known)
    jax.tree.map(np.testing.assert_array_equal, store.to_array_data(), known.to_array_data())


def test_masks_and_a_stream_go_into_shards(tmp_path):
    batches = [
        (tokens.X[:4], (tokens.LABELS[:4], tokens.COUNTED[:4])),
        (tokens.X[4:], (tokens.LABELS[4:], tokens.COUNTED[4:])),
    ]
    data = DataLoader.from_callable_iterable(lambda: iter(batches))
    known = features(tokens.token_net, tokens.PARAMS, data)
    store = features(tokens.token_net, tokens.PARAMS, data, path=tmp_path)
    same(store, known)
    posterior = fit(tokens.token_net, tokens.PARAMS, store)
    assert posterior.num_data == tokens.COUNTED.sum()


def test_a_finished_folder_runs_no_network(tmp_path):
    net = Counted()
    features(net.apply, net.params, loader(), ["kernel", "bias"], tmp_path)
    seen = net.points
    store = features(net.apply, net.params, loader(), ["kernel", "bias"], tmp_path)
    assert net.points == seen and store.size == N


@pytest.mark.parametrize("lost", [0, 2, 4], ids=str)
def test_only_what_lacks_is_made(lost, tmp_path):
    features(Net(), variables(), loader(batch_size=4), path=tmp_path)
    before = contents(tmp_path)
    changed = {name: os.stat(tmp_path / name).st_mtime_ns for name in before}
    name = f"shard-{lost:06d}.safetensors"
    (tmp_path / name).unlink()
    (tmp_path / "index.safetensors").unlink()
    features(Net(), variables(), loader(batch_size=4), path=tmp_path)
    assert contents(tmp_path) == before
    moved = {n for n in before if os.stat(tmp_path / n).st_mtime_ns != changed[n]}
    assert moved == {name, "index.safetensors"}


NORM = Net(norm=True)
FEWER = X[:40], Y[:40]
OTHERS = {
    "frozen parameters": lambda: (Net(), variables(seed=1), loader(batch_size=4)),
    "network": lambda: (NORM, variables(NORM), loader(batch_size=4)),
    "function": lambda: (of_function, FUNCTION, loader(batch_size=4)),
    "layer": lambda: (Net(), variables(), loader(batch_size=4), ["head/kernel"]),
    "first batch": lambda: (Net(), variables(), loader(X + 1, batch_size=4)),
    "targets": lambda: (Net(), variables(), loader(X, 2 - Y, batch_size=4)),
    "fewer points": lambda: (Net(), variables(), loader(*FEWER, batch_size=4)),
    "batch size": lambda: (Net(), variables(), loader(batch_size=8)),
}


@pytest.mark.parametrize("whole", [True, False], ids=["finished", "begun"])
@pytest.mark.parametrize("case", OTHERS)
def test_a_folder_of_something_else_is_left_alone(case, whole, tmp_path):
    features(Net(), variables(), loader(batch_size=4), path=tmp_path)
    if not whole:
        if case == "fewer points":
            pytest.skip("fewer of the same points are a part of them")
        (tmp_path / "index.safetensors").unlink()
        (tmp_path / "shard-000002.safetensors").unlink()
    before = contents(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"path .* (holds )?features of"):
        features(*OTHERS[case](), path=tmp_path)
    assert contents(tmp_path) == before


def test_data_that_differ_later_are_found_where_shards_are_made(tmp_path):
    features(Net(), variables(), loader(batch_size=4), path=tmp_path)
    (tmp_path / "shard-000000.safetensors").unlink()
    x = X.copy()
    x[30] += 1
    with pytest.raises(InvalidArgumentError, match=r"shard-000002.* of other data"):
        features(Net(), variables(), loader(x, batch_size=4), path=tmp_path)


FOREIGN = {
    "a file": lambda folder: (folder / "notes.txt").write_text("mine"),
    "another container": lambda folder: storage.write(
        folder / "manifest.safetensors", "posterior", {}, {}
    ),
    "a folder": lambda folder: (folder / "sub").mkdir(),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_folder_that_holds_something_else_is_never_written_into(case, tmp_path):
    FOREIGN[case](tmp_path)
    before = sorted(place.name for place in tmp_path.iterdir())
    with pytest.raises(HoarfrostError):
        features(Net(), variables(), loader(), path=tmp_path)
    assert sorted(place.name for place in tmp_path.iterdir()) == before


@pytest.mark.parametrize("path", [3, "", b"bytes", ["a"], "a\0b"], ids=str)
def test_what_is_no_path_is_an_error(path):
    with pytest.raises(InvalidArgumentError, match="path"):
        features(Net(), variables(), loader(), path=path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="is a file"):
        features(Net(), variables(), loader(), path=tmp_path / "file")
    with pytest.raises(SavedFileError):
        features(Net(), variables(), loader(), path=tmp_path / "file" / "below")


def test_nothing_is_written_where_the_selection_is_no_layer(tmp_path):
    with pytest.raises(HoarfrostError):
        features(Net(), variables(), loader(), ["hidden"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_newer_version_is_said(tmp_path):
    features(Net(), variables(), loader(), path=tmp_path)
    place = tmp_path / "manifest.safetensors"
    with storage.opened(place, "feature manifest") as stored:
        header = stored.header
    storage.write(place, "feature manifest", header | {"version": 99, "layer": {"new": 1}}, {})
    with pytest.raises(SavedFileError, match="version 99"):
        features(Net(), variables(), loader(), path=tmp_path)


def test_every_file_is_safetensors_with_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        features(Net(), variables(), loader(batch_size=4), path=tmp_path)
    finally:
        os.umask(before)
    for place in tmp_path.iterdir():
        assert stat.S_IMODE(place.stat().st_mode) == 0o640
        raw = place.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        assert "__metadata__" in json.loads(raw[8 : 8 + length])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_store, "_AT_ONCE", SHARD * 4 * 6)
        features(of_function, FUNCTION, loader(batch_size=4), path=path)
    return path


def damages():
    """What may happen to a file: its length, and one byte anywhere."""
    shares = iter(np.random.default_rng(0).random(48))
    for index in range(12):
        yield f"cut {index}", functools.partial(cut, share=next(shares))
    for index in range(24):
        yield f"header {index}", functools.partial(flipped, first=0, last=900, share=next(shares))
    for index in range(12):
        yield f"contents {index}", functools.partial(flipped, first=4096, share=next(shares))
    yield "longer", lambda raw: raw + b"\0"
    yield "empty", lambda raw: b""


def cut(raw, share):
    return raw[: int(share * len(raw))]


def flipped(raw, first, share, last=None):
    place = first + int(share * ((last or len(raw)) - first))
    return raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :]


DAMAGES = dict(damages())


@pytest.mark.parametrize("whole", [True, False], ids=["finished", "begun"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_with_the_remedy_which_helps(damage, whole, folder, tmp_path):
    for name, raw in contents(folder).items():
        (tmp_path / name).write_bytes(raw)
    victim = tmp_path / "shard-000001.safetensors"
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    if not whole:
        (tmp_path / "shard-000003.safetensors").unlink()
    before = victim.read_bytes()
    with pytest.raises(SavedFileError, match=r"shard-000001\.safetensors.*Remove shard-000001"):
        features(of_function, FUNCTION, loader(batch_size=4), path=tmp_path)
    assert victim.read_bytes() == before
    victim.unlink()
    features(of_function, FUNCTION, loader(batch_size=4), path=tmp_path)
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("name", ["manifest.safetensors", "index.safetensors"])
@pytest.mark.parametrize("damage", ["cut 1", "header 3", "empty"])
def test_a_damaged_manifest_or_index_is_named(name, damage, folder, tmp_path):
    for own, raw in contents(folder).items():
        (tmp_path / own).write_bytes(raw)
    (tmp_path / name).write_bytes(DAMAGES[damage]((tmp_path / name).read_bytes()))
    with pytest.raises(SavedFileError, match=name):
        features(of_function, FUNCTION, loader(batch_size=4), path=tmp_path)


def test_a_large_folder_is_checked_as_it_is_read(folder, monkeypatch):
    """Beyond a size contents are not read when the folder is opened, but before they are used."""
    monkeypatch.setattr(reading, "CHECKED", 1)
    checked = []
    original = storage.StoredFile.check

    def check(self, *names):
        checked.append(self.path.name)
        original(self, *names)

    monkeypatch.setattr(storage.StoredFile, "check", check)
    store = features(of_function, FUNCTION, loader(batch_size=4), path=folder)
    assert "shard-000002.safetensors" not in checked
    for _ in range(2):
        list(store.epoch(0))
    assert checked.count("shard-000002.safetensors") == 1


def test_a_shard_of_another_folder_is_told(folder, tmp_path):
    features(with_skip, SKIP, loader(batch_size=4), ["head"], tmp_path)
    name = "shard-000001.safetensors"
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(InvalidArgumentError, match="belongs to other features"):
        features(with_skip, SKIP, loader(batch_size=4), ["head"], tmp_path)
    for own, raw in contents(folder).items():
        (tmp_path / own).write_bytes(raw)
    (tmp_path / name).write_bytes((folder / "shard-000002.safetensors").read_bytes())
    with pytest.raises(InvalidArgumentError, match="belongs to other features"):
        features(of_function, FUNCTION, loader(batch_size=4), path=tmp_path)


def test_many_threads_read_at_once(folder):
    store = features(of_function, FUNCTION, loader(batch_size=4), path=folder)
    known = features(of_function, FUNCTION, loader(batch_size=4)).to_array_inputs()
    wrong = []

    def read():
        if not np.array_equal(store.to_array_inputs(), known):
            wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_validation_data_from_a_folder(folder, tmp_path):
    train = features(of_function, FUNCTION, loader(batch_size=4), path=folder)
    held = features(of_function, FUNCTION, loader(X_NEW, Y_NEW, 4), path=tmp_path / "held")
    near(
        fit(of_function, FUNCTION, train).log_prob(held),
        fit(of_function, FUNCTION, loader(batch_size=4)).log_prob(loader(X_NEW, Y_NEW)),
    )


def test_what_killed_processes_began_is_removed_in_the_end(tmp_path):
    """Not at once: another process may be at it."""
    features(of_function, FUNCTION, loader(batch_size=4), path=tmp_path)
    (tmp_path / "index.safetensors").unlink()
    old, new = (tmp_path / f".shard-000001.safetensors.{i}.tmp" for i in range(2))
    for place in (old, new):
        place.write_bytes(b"begun")
    os.utime(old, (0, 0))
    features(of_function, FUNCTION, loader(batch_size=4), path=tmp_path)
    assert not old.exists() and new.exists()


def test_a_folder_in_which_a_process_has_only_begun_is_taken(tmp_path):
    (tmp_path / ".manifest.safetensors.0123.tmp").write_bytes(b"begun")
    assert features(of_function, FUNCTION, loader(), path=tmp_path).size == N


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SavedFileError):
        features(of_function, FUNCTION, loader(), path=tmp_path / "new")


def test_a_finished_folder_is_read_without_writing(folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("written")

    monkeypatch.setattr(storage, "write", refuse)
    assert features(of_function, FUNCTION, loader(batch_size=4), path=folder).size == N
