"""Under a limit on the address space every verb is right or `MemoryLimitError`, and none aborts."""

from __future__ import annotations

import numpy as np
import pytest
from posteriors import STRUCTURES

import hoarfrost
from hoarfrost.errors import MemoryLimitError

QUICK = ("softmax", "gaussian separate", "full in place", "diag layer")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_right_or_refused(child, full, structure):
    if structure not in QUICK and not full:
        pytest.skip("with --faults-full")
    size, limits, timeout = (1500, 30, 900) if full else (600, 2, 90)
    found = child("limits.py", structure, size, limits, timeout=timeout)
    assert found["wrong"] == []
    assert found["counts"]["refused"] > 0 and found["counts"]["right"] > 0


SAID = {
    "JAX": (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123456 bytes."), 123456),
    "NumPy": (MemoryError(), 0),
}


@pytest.mark.parametrize("entry", ["fit_laplace", "plan"])
@pytest.mark.parametrize("who", SAID)
def test_no_room_while_a_network_runs_has_a_type(who, entry):
    def apply(params, x):
        raise SAID[who][0]

    w, x = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)
    data = [(x, np.array([0, 1, 2, 0]))]
    with pytest.raises(MemoryLimitError, match=r"needs .* train fewer parameters") as caught:
        hoarfrost.fit_laplace(apply, w, data) if entry == "fit_laplace" else hoarfrost.plan(
            apply, w, x
        )
    assert caught.value.bytes_needed == SAID[who][1]


def test_any_other_error_of_a_network_stays_what_it_is():
    def apply(params, x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        hoarfrost.plan(apply, np.ones((2, 3), np.float32), np.ones((4, 2), np.float32))
