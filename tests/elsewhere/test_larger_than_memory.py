"""Data in files, gone over by memory-mapped shards: memory does not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SHARDS = 32
# Steps of training are queued; outputs of a prediction are 8 bytes a point. 192 shards take no more
SLACK = 48 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are those of Linux")
def test_peak_memory_does_not_grow_with_the_data(tmp_path):
    child = Path(__file__).with_name("shards.py")
    done = subprocess.run(
        [sys.executable, child, tmp_path, str(SHARDS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["data"] == 128 * 2**20
    assert max(found["grown"].values()) < SLACK, found
