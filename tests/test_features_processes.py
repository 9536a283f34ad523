"""Features made by processes that are killed, and by several at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from feature_cases import N, Net, loader, variables
from feature_writer import make

import hoarfrost
from hoarfrost.curvature import feature_store

HERE = Path(__file__).parent
POINTS = 4  # a shard for each batch


@pytest.fixture(autouse=True)
def shard_size_comes_back(monkeypatch):
    monkeypatch.setattr(feature_store, "_AT_ONCE", feature_store._AT_ONCE)


def writer(path):
    """A process that is ready to begin."""
    child = subprocess.Popen(
        [sys.executable, str(HERE / "feature_writer.py"), str(path), str(POINTS)],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return child


def begin(child):
    assert child.stdout.readline() == "ready\n"
    child.stdin.write("\n")
    child.stdin.flush()


def contents(folder):
    return {
        place.name: place.read_bytes()
        for place in (folder.iterdir() if folder.exists() else ())
        if not place.name.startswith(".")
    }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    before = feature_store._AT_ONCE
    path = tmp_path_factory.mktemp("unbroken")
    make(path, POINTS)
    feature_store._AT_ONCE = before
    return contents(path)


def test_a_killed_process_leaves_whole_shards_and_another_goes_on(tmp_path, unbroken):
    moments = random.Random(0)
    children = [writer(tmp_path / str(index)) for index in range(3)]
    left = []
    for index, child in enumerate(children):
        folder = tmp_path / str(index)
        with child:
            begin(child)
            until = moments.randint(1, 10)
            while child.poll() is None and len(list(folder.glob("shard-*"))) < until:
                time.sleep(0.0005)
            time.sleep(moments.uniform(0, 0.004))
            child.send_signal(signal.SIGKILL)
        there = contents(folder)
        left.append(len(there))
        assert all(unbroken[name] == raw for name, raw in there.items())
        make(folder, POINTS)
        assert contents(folder) == unbroken
    assert min(left) < len(unbroken)


def test_two_processes_make_one_folder(tmp_path, unbroken):
    children = [writer(tmp_path) for _ in range(2)]
    for child in children:
        begin(child)
    store = make(tmp_path, POINTS)  # and this one
    for child in children:
        with child:
            assert child.stdout.readline() == "done\n" and child.wait() == 0
    assert contents(tmp_path) == unbroken
    assert {place.name for place in tmp_path.iterdir()} == set(unbroken)
    known = hoarfrost.features(Net(), variables(), loader(batch_size=4), progress=False)
    assert np.array_equal(store.to_array_inputs(), known.to_array_inputs()) and store.size == N
