"""The campaign finds what it looks for: each kind of failure, made on purpose, is told."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import folders  # noqa: F401
import numpy as np
import pytest

FAKE = """
import json, os, sys, time
cases, results, start = sys.argv[1:]
for index in range(int(start), len(open(cases).readlines())):
    with open(results, "a") as out:
        out.write(json.dumps({"begun": index}) + "\\n")
    if index == 1:
        os.abort()
    if index == 2:
        time.sleep(60)
    with open(results, "a") as out:
        line = {"done": index, "outcome": "right", "message": ""}
        out.write(json.dumps(line) + "\\n")
"""


def test_a_case_that_aborts_or_hangs_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    from campaign import failures, run_share, table
    from cases import Case

    worker = tmp_path / "worker.py"
    worker.write_text(FAKE)
    cases = [Case("made up", "argument", ("whole", number)) for number in range(5)]
    outcomes = run_share(cases, worker, patience=3.0)
    assert [one.verdict.outcome for one in outcomes] == ["right", "abort", "hang", "right", "right"]
    assert table(outcomes).splitlines()[1].split() == ["all", "3", "0", "0", "0", "1", "1"]
    assert failures(outcomes).count("worker.py") == 2


def swapped(value: Any) -> Any:
    """Reads the bytes of an array as if they were in this machine's order."""
    return np.asarray(value).view(np.asarray(value).dtype.newbyteorder("="))


def raises(value: Any) -> Any:
    raise ValueError("argument: no frame of Hoarfrost raised this")


def ours(value: Any) -> Any:
    from hoarfrost.checks import check_number

    return check_number("argument", value, positive=True)


def fault(value: Any) -> Any:
    from hoarfrost.errors import InternalError

    raise InternalError("a fault")


def warns(value: Any) -> Any:
    warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
    return 1.0


def loses(value: Any) -> Any:
    try:
        return value()
    except Exception:
        return 0.0


def test_each_outcome_is_told_from_the_others() -> None:
    from judge import judge
    from meaning import Boom, Hostile, Raises, either, same, senseless

    def boom() -> None:
        raise Boom

    plain = np.arange(1.0, 4.0)
    turned = same(plain.astype(">f8"), plain)
    cases = [
        (np.sum, turned, "right"),
        (swapped, turned, "wrong"),
        (lambda value: value, senseless("a"), "wrong"),
        (raises, senseless("a"), "raw error"),
        (fault, senseless("a"), "raw error"),
        (ours, senseless("a"), "typed error"),
        (warns, either(1), "raw error"),
        (lambda value: np.log(np.full(2, np.nan)), either(1), "wrong"),
        (lambda value: value(), Hostile(boom, Raises()), "right"),
        (loses, Hostile(boom, Raises()), "wrong"),
    ]
    for call, hostile, outcome in cases:
        assert judge(call, hostile, "argument", None).outcome == outcome, (call, outcome)


def test_an_oracle_judges_what_has_no_plain_form() -> None:
    from judge import judge
    from meaning import either
    from oracles import ORACLES

    given = {"preds": np.array([1e9]), "targets": np.array([1e9 + 1])}
    for result, outcome in ((1.0, "right"), (0.0, "wrong")):
        verdict = judge(
            lambda value, result=result: np.float32(result),
            either(given["preds"]),
            "preds",
            lambda value, found: ORACLES["rmse"]({**given, "preds": value}, found),
        )
        assert verdict.outcome == outcome


@pytest.mark.parametrize("count", [300, 700])
def test_the_cases_are_the_same_at_every_run(count: int) -> None:
    from cases import campaign

    first = campaign(count)
    assert first == campaign(count) and len(first) >= count and len(set(first)) == len(first)
