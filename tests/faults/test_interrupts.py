"""Ctrl-C at any moment: `KeyboardInterrupt` within a second, then the same call, the same bits."""

from __future__ import annotations

import pytest

# Sizes at which a verb takes longer than a second on one core.
LONG = {
    ("softmax", "joint"): (2400, 500),
    ("softmax", "tune"): (5000, 300),
    ("gaussian separate", "joint"): (2400, 400),
    ("full", "predict"): (3000, 600),
    ("full", "fit"): (3000, 600),
    ("diag", "joint"): (30000, 60),
    ("diag", "mc"): (200000, 40),
    ("diag layer", "sample"): (2000000, 16),
}
QUICK = (("softmax", "joint"), ("diag", "joint"))


@pytest.mark.parametrize(("structure", "verb"), LONG)
def test_it_stops_and_goes_on(child, full, structure, verb):
    if (structure, verb) not in QUICK and not full:
        pytest.skip("with --faults-full")
    moments, timeout = (30, 900) if full else (2, 120)
    found = child(
        "interrupts.py", structure, *LONG[structure, verb], verb, moments, 3, timeout=timeout
    )
    assert found["same"]
    assert found["delays"], "no call was interrupted"
    # A second of this machine when nothing else runs on it; a test is one of several processes.
    assert max(found["delays"]) < 1 + found["taken"] / 2
