"""The tables of the README's results: all there, sound, the same again, and fair in their words."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Run, run

pytest.importorskip("sklearn")

from hoarfrost.examples.results.__main__ import main
from hoarfrost.examples.results.classifiers import BASELINES, LAPLACES, METHODS
from hoarfrost.examples.results.digit_tasks import ANGLES
from hoarfrost.examples.results.report import TASKS, sentences, table
from hoarfrost.examples.results.scores import Row, Summary, summarise, verdict

CLASS_SCORES = ("NLL", "ECE", "Brier", "accuracy")
NUMBER_SCORES = {("NLL", "test"), ("coverage", "test"), ("RMSE", "test")}
KNOWN = {
    *((score, "known") for score in (*CLASS_SCORES, "confidence")),
    ("confidence", "unknown"),
    ("AUROC", "both"),
}
EXPECTED = {
    "rotated-digits": {
        (score, where)
        for score in CLASS_SCORES
        for where in ("mean", *(f"{angle}°" for angle in ANGLES))
    },
    "unknown-digits": KNOWN,
    "diabetes": NUMBER_SCORES,
    "friedman": NUMBER_SCORES,
}
MODULE = "hoarfrost.examples.results"
LARGEST = {"ECE": 1.0, "Brier": 2.0, "accuracy": 1.0, "confidence": 1.0, "AUROC": 1.0}
LARGEST |= {"coverage": 1.0, "NLL": 100.0, "RMSE": 10.0}


@pytest.fixture(scope="module")
def started(quick_run: Callable[[str], Run]) -> Run:
    """One quick run."""
    done = quick_run(MODULE)
    assert done.code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def quick(started: Run) -> tuple[str, str, dict]:
    """Standard output, standard error and the JSON of the quick run."""
    written = (started.folder / "all.json").read_text(encoding="utf-8")
    return started.stdout, started.stderr, json.loads(written)


def test_every_row_and_column_is_there_and_sound(quick: tuple[str, str, dict]) -> None:
    document = quick[2]
    assert document["seeds"] == 2 and document["quick"] is True
    assert list(document["tasks"]) == list(EXPECTED) == list(TASKS)
    for task, records in document["tasks"].items():
        rows = [(record["score"], record["on"]) for record in records]
        assert set(rows) == EXPECTED[task] and len(rows) == len(EXPECTED[task])
        for record in records:
            assert tuple(record["methods"]) == METHODS
            for found in record["methods"].values():
                low = -5.0 if task in ("diabetes", "friedman") and record["score"] == "NLL" else 0.0
                assert len(found["seeds"]) == 2
                assert all(low <= v <= LARGEST[record["score"]] for v in found["seeds"])
                assert found["mean"] == pytest.approx(sum(found["seeds"]) / 2)
                gap = abs(found["seeds"][0] - found["seeds"][1])
                assert found["standard_error"] == pytest.approx(gap / 2, abs=1e-12)


def test_methods_share_what_they_must_share(quick: tuple[str, str, dict]) -> None:
    for task, records in quick[2]["tasks"].items():
        scores = {(r["score"], r["on"]): r["methods"] for r in records}
        for (score, _), methods in scores.items():
            if score in ("accuracy", "RMSE"):
                # A temperature changes no class, and no mean.
                assert methods["MAP"]["seeds"] == methods["Temp. scaling"]["seeds"]
            if score == "RMSE":
                # Nor does a linearised posterior.
                for method in LAPLACES:
                    assert methods[method]["mean"] == pytest.approx(methods["MAP"]["mean"], 1e-4)
        # Different seeds are different experiments, and all methods are different methods.
        nll = scores[next(row for row in scores if row[0] == "NLL")]
        assert all(found["seeds"][0] != found["seeds"][1] for found in nll.values()), task
        assert len({found["mean"] for found in nll.values()}) == len(METHODS), task


def test_the_mean_is_over_all_rotations(quick: tuple[str, str, dict]) -> None:
    records = {(r["score"], r["on"]): r["methods"] for r in quick[2]["tasks"]["rotated-digits"]}
    for method in METHODS:
        values = [records["NLL", f"{angle}°"][method]["mean"] for angle in ANGLES]
        mean = records["NLL", "mean"][method]["mean"]
        assert mean == pytest.approx(sum(values) / len(ANGLES))
    assert records["accuracy", "0°"]["MAP"]["mean"] > 0.8
    assert records["accuracy", "90°"]["MAP"]["mean"] < 0.4


def test_what_is_printed_is_what_is_written(quick: tuple[str, str, dict]) -> None:
    printed, progress, document = quick
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    tables = [line for line in lines if line.startswith("| score ")]
    assert len(tables) == len(TASKS) and "results: 100%" in progress and "%|" not in printed
    heads = [cell.strip() for cell in tables[0].strip("|").split("|")]
    assert heads == ["score", "on", *METHODS]
    # The angles left out of the table are in the JSON.
    assert sum(map(len, EXPECTED.values())) - len(CLASS_SCORES) * 8 == len(lines) - 2 * len(tables)
    records = iter(document["tasks"]["diabetes"])
    start = lines.index(next(line for line in lines if "| test " in line))
    for line, record in zip(lines[start : start + 3], records, strict=True):
        score, where, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert (score, where) == (record["score"], record["on"])
        for cell, found in zip(cells, record["methods"].values(), strict=True):
            assert cell == f"{found['mean']:.3f} ± {found['standard_error']:.3f}"
    assert all(len(line) < 128 for line in lines)
    for method in LAPLACES:
        for baseline in BASELINES:
            assert printed.count(f"- {method} against {baseline}:") == len(TASKS)


def test_the_same_seeds_give_the_same_numbers(
    started: Run, quick: tuple[str, str, dict], tmp_path: Path
) -> None:
    target, cache = tmp_path / "again.json", started.folder.parent / "compiled"
    options = ("--quick", "--json", str(target), "--task", "diabetes")
    done = run(MODULE, *options, folder=started.folder, cache=cache)
    assert done.code == 0, done.stderr
    again = json.loads(target.read_text(encoding="utf-8"))["tasks"]
    assert again == {"diabetes": quick[2]["tasks"]["diabetes"]}
    # Nothing unfinished is left beside it.
    assert [path.name for path in tmp_path.iterdir()] == ["again.json"]


def test_summaries() -> None:
    assert summarise([1.0, 3.0]) == Summary(2.0, 1.0)
    assert str(summarise([1.0, 3.0])) == "2.000 ± 1.000"
    assert math.isnan(summarise([1.0]).standard_error) and str(summarise([1.0])) == "1.000"


@pytest.mark.parametrize(
    ("row", "ours", "theirs", "expected"),
    [
        (Row("NLL", "a"), [1.0, 2.0, 3.0], [0.5, 1.5, 2.4], "loses"),
        (Row("NLL", "a"), [0.5, 1.5, 2.4], [1.0, 2.0, 3.0], "wins"),
        # Paired: each seed says the same, however far seeds are apart.
        (Row("accuracy", "a"), [0.1, 0.9], [0.2, 1.0], "loses"),
        (Row("accuracy", "a"), [0.2, 1.0], [0.1, 0.9], "wins"),
        (Row("NLL", "a"), [1.0, 2.0, 3.0], [1.5, 1.5, 2.9], "same"),
        # Beyond its error, but not to be seen in three decimals.
        (Row("NLL", "a"), [1.0001, 2.0001], [1.0, 2.0], "same"),
        (Row("coverage", "a"), [0.99, 0.98], [0.89, 0.91], "loses"),
        (Row("coverage", "a"), [0.91, 0.89], [0.7, 0.72], "wins"),
        (Row("confidence", "unknown"), [0.5, 0.6], [0.8, 0.9], "wins"),
        (Row("confidence", "known"), [0.5, 0.6], [0.8, 0.9], None),
        (Row("NLL", "a"), [1.0], [2.0], "same"),
    ],
)
def test_verdicts(row: Row, ours: list, theirs: list, expected: str | None) -> None:
    assert verdict(row, ours, theirs) == expected


def collected(laplace: float) -> dict:
    seeds = [0.0, 0.1, 0.2]
    levels = {**dict.fromkeys(BASELINES, 1.0), **dict.fromkeys(LAPLACES, laplace)}
    row = {method: [level + seed for seed in seeds] for method, level in levels.items()}
    return {Row("NLL", "here"): row, Row("RMSE", "here"): dict.fromkeys(METHODS, seeds)}


@pytest.mark.parametrize(("laplace", "word"), [(2.0, "loses"), (0.5, "wins")])
def test_sentences_follow_from_the_numbers(laplace: float, word: str) -> None:
    found = sentences(collected(laplace), lambda row: True)
    assert found == [
        f"- {method} against {baseline}: **{word}** in NLL; cannot be told apart in RMSE."
        for method in LAPLACES
        for baseline in BASELINES
    ]


def test_losses_are_said_first_and_places_are_named() -> None:
    values = collected(0.5)
    values[Row("NLL", "there")] = {
        **values[Row("NLL", "here")],
        LAPLACES[-1]: [3.0, 3.1, 3.2],
    }
    found = sentences(values, lambda row: True)
    assert found[0].startswith(f"- {LAPLACES[-1]} against MAP: **loses** in NLL (there); **wins**")
    one_seed = {row: {m: v[:1] for m, v in by.items()} for row, by in values.items()}
    assert sentences(one_seed, lambda row: True)[0].startswith("One seed has no standard error")
    assert "there" not in table(values, lambda row: row.where == "here")


def test_without_scikit_learn_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["--quick"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(
        'scikit-learn is not installed; pip install "hoarfrost[demo]" installs what this command '
        "needs\n"
    )
    assert captured.err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_said_before_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in (tmp_path, tmp_path / "missing" / "all.json"):
        assert main(["--json", str(target)]) == 2
        assert f"{str(target)!r} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--seeds", "x"], ["--task", "else"]])
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err
