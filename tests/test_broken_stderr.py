"""A progress bar that cannot be shown is dropped, and the work that it tells of goes on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hoarfrost.progress import progress_bar

# MAP training, the curvature and calibration, each with its bar; the last line is written by hand,
# since standard output is what is looked at.
CODE = """
import sys
import jax
import numpy as np
import optax
from flax import linen as nn
from hoarfrost.data import DataLoader
from hoarfrost.prob_model import *

if len(sys.argv) > 2 and sys.argv[2] == "none":
    sys.stderr = None
if len(sys.argv) > 2 and sys.argv[2] == "closed":
    sys.stderr.close()
x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
loader = DataLoader.from_array_data((x, (x[:, 0] > 0).astype(int)), batch_size=8)
model = ProbClassifier(nn.Dense(2))
status = model.train(
    loader,
    calib_data_loader=loader,
    map_fit_config=FitConfig(FitOptimizer(optax.sgd(1e-2), 2)),
    calib_config=CalibConfig(CalibOptimizer(optax.sgd(1e-2), 2)),
)
with open(sys.argv[1], "w") as file:
    file.write(str(len(status["calib_status"]["loss"])))
"""


def finished(tmp_path: Path, redirection: str = "", *arguments: str) -> subprocess.CompletedProcess:
    """A run of the code, whose standard error is what the shell makes of it."""
    script, told = tmp_path / "code.py", tmp_path / "told"
    script.write_text(CODE, encoding="utf-8")
    command = f'exec "$0" "$@" {redirection}'
    run = subprocess.run(
        ["bash", "-c", command, sys.executable, str(script), str(told), *arguments],
        stdout=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert told.exists() and told.read_text(encoding="utf-8") == "2"
    return run


@pytest.mark.parametrize(
    ("redirection", "arguments"),
    [
        ("2>&-", ()),
        pytest.param(
            "2>/dev/full",
            (),
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full"),
        ),
        ("2> >(exit)", ()),
        ("", ("none",)),
        ("", ("closed",)),
    ],
)
def test_training_and_fits_end_with_any_standard_error(tmp_path, redirection, arguments):
    finished(tmp_path, redirection, *arguments)


class Broken(io.StringIO):
    """A stream that lets a number of writes pass and then raises."""

    def __init__(self, error: Exception, after: int) -> None:
        super().__init__()
        self.error, self.after = error, after

    def write(self, text: str) -> int:
        self.after -= 1
        if self.after < 0:
            raise self.error
        return super().write(text)


ERRORS = [
    BrokenPipeError(32, "Broken pipe"),
    OSError(28, "No space left on device"),
    OSError(9, "Bad file descriptor"),
    OSError(5, "Input/output error"),
    ValueError("I/O operation on closed file."),
    UnicodeEncodeError("ascii", "█", 0, 1, "ordinal not in range"),
]


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:20])
def test_a_bar_that_breaks_on_the_way_is_dropped(monkeypatch, error, after):
    stream = Broken(error, after)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(5), description="work")) == list(range(5))
    with progress_bar(total=3) as bar:
        for _ in range(3):
            bar.set_description("x", refresh=True)
            bar.update()
    # Once it has failed it is left alone.
    assert stream.after >= -2


def test_a_sound_stream_gets_the_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(total=2, description="Fit") as bar:
        bar.update(2)
    assert "Fit: 100%" in stream.getvalue()
