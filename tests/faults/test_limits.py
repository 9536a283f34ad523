"""Under a limit on the address space every verb is right or `MemoryLimitError`, and none aborts."""

from __future__ import annotations

import pytest
from posteriors import STRUCTURES

QUICK = ("softmax", "gaussian separate", "full in place", "diag layer")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_right_or_refused(child, full, structure):
    if structure not in QUICK and not full:
        pytest.skip("with --faults-full")
    size, limits, timeout = (1500, 30, 900) if full else (600, 2, 90)
    found = child("limits.py", structure, size, limits, timeout=timeout)
    assert found["wrong"] == []
    assert found["counts"]["refused"] > 0 and found["counts"]["right"] > 0
