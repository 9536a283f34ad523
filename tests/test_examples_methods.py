"""The comparison of all methods: every score of every method, sound, and told from chance."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from commands import Run

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from hoarfrost.examples.methods import report
from hoarfrost.examples.methods.fits import EVIDENCE, LAPLACE, METHODS
from hoarfrost.examples.methods.scored import HELD, SECONDS

TABLES = ("digits, head", "digits, network", "Friedman, head", "Friedman, network")


@pytest.fixture(scope="module")
def quick(quick_run: Callable[[str], Run]) -> Run:
    """One quick run."""
    done = quick_run("hoarfrost.examples.methods")
    assert done.code == 0, done.stderr
    return done


def test_every_method_has_every_score_in_every_table(quick: Run) -> None:
    found = re.split(r"^### (.*)$", quick.stdout, flags=re.MULTILINE)
    assert found[1::2] == list(TABLES)
    for name, text in zip(found[1::2], found[2::2], strict=True):
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        names = [cell.strip() for cell in rows[0].strip("|").split("|")]
        kind = ["ECE", "accuracy"] if name.startswith("digits") else ["coverage", "RMSE"]
        assert names == ["method", "NLL", *kind, "AUROC", SECONDS, HELD]
        by_method = {}
        for row in rows[2:]:
            method, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            by_method[method] = [float(cell.split(" ")[0]) for cell in cells]
        assert list(by_method) == list(METHODS)
        for numbers in by_method.values():
            assert np.isfinite(numbers).all() and min(numbers) >= -5
            assert all(0 <= value <= 1 for value in (numbers[1], numbers[3]))
    assert (quick.folder / "methods.png").stat().st_size > 10_000


def test_words_follow_from_the_numbers() -> None:
    level = {method: [1.0, 1.1, 0.9] for method in METHODS}
    scores = {"NLL": {**level, LAPLACE: [2.0, 2.1, 1.9], EVIDENCE: [0.5, 0.6, 0.4]}, SECONDS: level}
    said = report.sentences(scores)
    others = ", ".join(m for m in METHODS if m not in (LAPLACE, EVIDENCE))
    assert said == [
        f"- Laplace **loses** in NLL to MAP, Laplace, evidence, {others.split(', ', 1)[1]}.",
        f"- Laplace, evidence **wins** in NLL against MAP, Laplace, {others.split(', ', 1)[1]}.",
    ]
    assert report.sentences({"NLL": level}) == ["- No difference is beyond chance."]
    one = {"NLL": {method: [1.0] for method in METHODS}}
    assert "no standard error" in report.sentences(one)[0]
