"""A stderr that is closed, broken or full ends no fit: its bar is dropped."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
import numpy as np, hoarfrost
x = np.ones((4, 2), np.float32)
{breaks}
w, data = np.ones((2, 3), np.float32), [(x, np.array([0, 1, 2, 0]))]
print(hoarfrost.fit_laplace(lambda p, x: x @ p, w, data).num_params)
"""

WAYS = {
    "closed": "os.close(2)",
    "none": "sys.stderr = None",
    "full": "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
    "broken": "r, w = os.pipe(); os.dup2(w, 2); os.close(w); os.close(r)",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_fit_goes_on_without_it(way):
    script = SCRIPT.format(breaks=WAYS[way])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "6", done.stderr[-800:]
