"""The plan against measured peaks."""

from __future__ import annotations

import sys

import pytest

# What the allocator and threads keep, and a piece more or less on its way, whatever the size.
KEPT = 32 * 2**20

QUICK = {"full": (3000, 200), "diag layer": (4500000, 8)}
FULL = {
    "softmax": (12000, 400),
    "bernoulli": (24000, 400),
    "gaussian": (24000, 400),
    "full": (8000, 400),
    "full in place": (8000, 800),
    "diag": (1000000, 16),
    "diag layer": (8000000, 16),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
@pytest.mark.parametrize("structure", FULL)
def test_what_is_said_is_what_is_taken(child, full, structure):
    if structure not in QUICK and not full:
        pytest.skip("with --faults-full")
    size, points = (FULL if full else QUICK)[structure]
    found = child("peaks.py", structure, size, points, timeout=300, optimised=True)
    said, measured = found["said"], found["measured"]
    for verb, peak in measured.items():
        assert abs(said[verb] - peak) < 0.1 * peak + KEPT, (verb, found)
