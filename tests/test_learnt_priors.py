"""The comparison of learnt priors: every score of every method, sound; and what it is there for."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from commands import Run

pytest.importorskip("sklearn")

from hoarfrost.examples.learnt_priors import (
    DECAY,
    FIXED,
    LAYERWISE,
    METHODS,
    SCALAR,
    compare,
    sentences,
    signals,
)


def test_every_method_has_every_score(quick_run: Callable[[str], Run]) -> None:
    done = quick_run("hoarfrost.examples.learnt_priors")
    assert done.code == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert names == ["method", "NLL", "RMSE", "cost"]
    assert [row.split("|")[1].strip() for row in rows[1:]] == list(METHODS)
    numbers = [float(one) for row in rows[1:] for one in re.findall(r"\d+\.\d+", row)]
    assert np.isfinite(numbers).all() and len(numbers) == 4 * 5


def test_a_learnt_prior_is_better_than_one_that_stays_and_than_a_grid() -> None:
    """At fewer epochs and labels than in the table; the margins there are larger still."""
    found = compare(signals(200, 0, 30))
    for method in (LAYERWISE, SCALAR):
        assert found[method]["NLL"] < found[FIXED]["NLL"] - 0.2
        assert found[method]["NLL"] < found[DECAY]["NLL"]


def test_words_follow_from_the_numbers() -> None:
    level = {"NLL": [1.0, 1.1, 0.9], "RMSE": [0.3, 0.3, 0.3], "seconds": [1.0, 1.0, 1.0]}
    better = {**level, "NLL": [0.5, 0.6, 0.4]}
    found = {FIXED: level, DECAY: better, LAYERWISE: better, SCALAR: level}
    assert sentences(found) == [
        f"- {LAYERWISE} against {FIXED}: **wins** in NLL; cannot be told apart in RMSE.",
        f"- {LAYERWISE} against {DECAY}: cannot be told apart in NLL, RMSE.",
        f"- {SCALAR} against {FIXED}: cannot be told apart in NLL, RMSE.",
        f"- {SCALAR} against {DECAY}: **loses** in NLL; cannot be told apart in RMSE.",
    ]
