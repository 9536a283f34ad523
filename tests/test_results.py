"""The tables of the README's results: all there, sound, the same again, and fair in their words."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import Run, run

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from hoarfrost.examples.results import gap_task, signal_tasks, whole_task
from hoarfrost.examples.results.__main__ import main
from hoarfrost.examples.results.classifiers import BASELINES, LAPLACES, METHODS
from hoarfrost.examples.results.contests import (
    OF_NARROW,
    OF_WIDE,
    ON_SIGNALS,
    SIX,
    WITH_GAPS,
)
from hoarfrost.examples.results.digit_tasks import ANGLES
from hoarfrost.examples.results.report import TASKS, sentences
from hoarfrost.examples.results.scores import Row, Summary, summarise, verdict
from hoarfrost.examples.results.tables import by_method, by_score
from hoarfrost.examples.signals_data import NUM_CLASSES

CLASS_SCORES = ("NLL", "ECE", "Brier", "accuracy")
NUMBER_SCORES = {("NLL", "test"), ("coverage", "test"), ("RMSE", "test")}
KNOWN = {
    *((score, "known") for score in (*CLASS_SCORES, "confidence")),
    ("confidence", "unknown"),
    ("AUROC", "both"),
}
SIGNAL_SCORES = ("NLL", "ECE", "accuracy")
EXPECTED = {
    "signals": {
        (score, f"{count:,}") for score in SIGNAL_SCORES for count in signal_tasks.QUICK_LABELS
    },
    "wrong-labels": {(score, where) for score in SIGNAL_SCORES for where in ("true", "as given")},
    "rotated-digits": {
        (score, where)
        for score in CLASS_SCORES
        for where in ("mean", *(f"{angle}°" for angle in ANGLES))
    },
    "unknown-digits": KNOWN,
    "diabetes": NUMBER_SCORES,
    "friedman": NUMBER_SCORES,
    "gaps": {
        (score, where)
        for score in ("NLL", "coverage", "RMSE")
        for where in ("data", "gaps", "beyond")
    },
    **{
        name: {(score, "100 labels") for score in SIGNAL_SCORES}
        for name in ("whole-narrow", "whole-wide")
    },
}
# Of numbers, whose density may be above one.
NUMBERS = ("diabetes", "friedman", "gaps")
MODULE = "hoarfrost.examples.results"
LARGEST = {"ECE": 1.0, "Brier": 2.0, "accuracy": 1.0, "confidence": 1.0, "AUROC": 1.0}
LARGEST |= {"coverage": 1.0, "NLL": 1000.0, "RMSE": 10.0}


def methods_of(task: str) -> tuple[str, ...]:
    few = (*whole_task.BASELINES, whole_task.KRON)
    return {
        SIX: METHODS,
        ON_SIGNALS: signal_tasks.METHODS,
        WITH_GAPS: gap_task.METHODS,
        OF_NARROW: (*few, whole_task.FULL),
        OF_WIDE: few,
    }[TASKS[task].contest]


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
            assert tuple(record["methods"]) == methods_of(task)
            for found in record["methods"].values():
                low = -5.0 if task in NUMBERS and record["score"] == "NLL" else 0.0
                assert len(found["seeds"]) == 2
                assert all(low <= v <= LARGEST[record["score"]] for v in found["seeds"])
                assert found["mean"] == pytest.approx(sum(found["seeds"]) / 2)
                gap = abs(found["seeds"][0] - found["seeds"][1])
                assert found["standard_error"] == pytest.approx(gap / 2, abs=1e-12)


def test_methods_share_what_they_must_share(quick: tuple[str, str, dict]) -> None:
    for task, records in quick[2]["tasks"].items():
        scores = {(r["score"], r["on"]): r["methods"] for r in records}
        for (score, _), methods in scores.items():
            if score in ("accuracy", "RMSE") and TASKS[task].contest is SIX:
                # A temperature changes no class, and no mean.
                assert methods["MAP"]["seeds"] == methods["Temp. scaling"]["seeds"]
            if score == "RMSE":
                # Nor does a linearised posterior.
                for method in TASKS[task].contest.laplaces:
                    assert methods[method]["mean"] == pytest.approx(methods["MAP"]["mean"], 1e-4)
        # Different seeds are different experiments, and all methods are different methods.
        nll = scores[next(row for row in scores if row[0] == "NLL")]
        assert all(found["seeds"][0] != found["seeds"][1] for found in nll.values()), task
        assert len({found["mean"] for found in nll.values()}) == len(methods_of(task)), task


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
    assert "results: 100%" in progress and "%|" not in printed
    assert all(len(line) < 128 for line in printed.splitlines() if line.startswith("|"))
    parts = re.split(r"^### (.*)$", printed, flags=re.MULTILINE)
    assert parts[1::2] == [task.title for task in TASKS.values()]
    for text, (name, task) in zip(parts[2::2], TASKS.items(), strict=True):
        found = {}
        for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
            heads, _, *rows = (
                [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
            )
            for first, *cells in rows:
                if heads[0] == "method":
                    keys = [(*head.split(", "), first) for head in heads[1:]]
                else:
                    where, *cells = cells
                    keys = [(first, where, method) for method in heads[2:]]
                found |= dict(zip(keys, cells, strict=True))
        wanted = {
            (record["score"], record["on"], method): (
                f"{values['mean']:.3f} ± {values['standard_error']:.3f}"
            )
            for record in document["tasks"][name]
            if task.printed(Row(record["score"], record["on"]))
            for method, values in record["methods"].items()
        }
        assert found == wanted
        for ours, theirs in task.contest.pairs():
            assert text.count(f"- {ours} against {theirs}:") == 1
    # The angles left out of the table are in the JSON.
    assert "| 15°" not in printed and ("NLL", "15°") in EXPECTED["rotated-digits"]


def test_the_picture_of_the_bands_is_a_png(started: Run) -> None:
    content = (started.folder / "gaps.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 50_000
    assert sorted(path.name for path in started.folder.iterdir()) == ["all.json", "gaps.png"]
    assert "Picture: gaps.png\n" in started.stdout


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
    found = sentences(collected(laplace), lambda row: True, SIX.pairs())
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
    found = sentences(values, lambda row: True, SIX.pairs())
    assert found[0].startswith(f"- {LAPLACES[-1]} against MAP: **loses** in NLL (there); **wins**")
    # Where it is the same everywhere, no place is named.
    assert found[2] == (
        f"- {LAPLACES[0]} against MAP: **wins** in NLL; cannot be told apart in RMSE."
    )
    one_seed = {row: {m: v[:1] for m, v in by.items()} for row, by in values.items()}
    alone = sentences(one_seed, lambda row: True, SIX.pairs())
    assert alone == ["One seed has no standard error: nothing can be said of differences."]
    for table in (by_score, by_method):
        assert "there" not in table(values, lambda row: row.where == "here")


def test_many_columns_are_a_table_for_each_score() -> None:
    values = {
        Row(score, where): {"a": [level, level], "long name": [0.0, 1.0]}
        for score, level in (("NLL", 1.0), ("ECE", 2.0))
        for where in ("x", "y", "z", "u")
    }
    assert by_method(values, lambda row: row.where == "x") == (
        "| method    |        NLL, x |        ECE, x |\n"
        "| --------- | ------------: | ------------: |\n"
        "| a         | 1.000 ± 0.000 | 2.000 ± 0.000 |\n"
        "| long name | 0.500 ± 0.500 | 0.500 ± 0.500 |"
    )
    first, second = by_method(values, lambda row: True).split("\n\n")
    assert first.count("NLL") == second.count("ECE") == 4 and "ECE" not in first


def test_every_laplace_meets_the_baselines_and_the_first_meets_all() -> None:
    pairs = ON_SIGNALS.pairs()
    assert len(set(pairs)) == len(pairs)
    for ours in signal_tasks.LAPLACES:
        assert [theirs for one, theirs in pairs if one == ours][:2] == [
            "MAP",
            "temperature scaling",
        ]
    met = {theirs for ours, theirs in pairs if ours == "full, evidence"}
    assert met == set(signal_tasks.METHODS) - set(signal_tasks.LAPLACES)


def test_a_fifth_of_the_labels_is_wrong_and_any_wrong_class_as_likely() -> None:
    truth = np.arange(20_000, dtype=np.int32) % NUM_CLASSES
    given = signal_tasks.spoilt(truth, signal_tasks.WRONG, np.random.default_rng(0))
    assert given.dtype == truth.dtype and given.min() == 0 and given.max() == NUM_CLASSES - 1
    shift = (given - truth) % NUM_CLASSES
    counts = np.bincount(shift, minlength=NUM_CLASSES)
    # Four standard deviations of a binomial count.
    assert abs(counts[0] - 16_000) < 4 * np.sqrt(20_000 * 0.2 * 0.8)
    assert np.abs(counts[1:] - 4000 / 9).max() < 4 * np.sqrt(4000 / 9)


def test_steps_are_of_the_size_that_the_curvature_of_a_head_allows() -> None:
    features = np.random.default_rng(1).standard_normal((30, 4))
    weights = np.random.default_rng(2).standard_normal((5, 3))
    with_bias = np.concatenate([features, np.ones((30, 1))], axis=1)

    def loss(flat: jax.Array) -> jax.Array:
        log_probs = jax.nn.log_softmax(with_bias @ flat.reshape(5, 3), axis=1)
        return 0.5 * jnp.sum(flat**2) - jnp.sum(log_probs[:, 0])

    bound = signal_tasks.largest_curvature(features)
    for scale in (0.0, 0.1, 3.0):
        largest = np.linalg.eigvalsh(jax.hessian(loss)(jnp.asarray(scale * weights).ravel()))[-1]
        assert largest <= bound * (1 + 1e-5)
        # At even probabilities of three classes it is a third of the features' beside a half.
        if scale == 0.0:
            assert largest > 0.6 * bound


def test_points_lie_where_they_are_measured() -> None:
    inputs, targets = gap_task.train_points(3)
    again, _ = gap_task.train_points(3)
    np.testing.assert_array_equal(inputs, again)
    assert inputs.shape == targets.shape == (50, 1) and inputs.dtype == np.float32
    inside = [(low <= inputs) & (inputs <= high) for low, high in gap_task.MEASURED]
    assert np.any(inside, axis=0).all() and all(part.sum() > 5 for part in inside)
    noise = targets - gap_task.line(inputs)
    # Four standard errors of a standard deviation.
    assert abs(noise.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * 50)


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")]
)
def test_without_what_it_needs_one_line_says_so(
    module: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["--quick"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(
        f'{package} is not installed; pip install "hoarfrost[demo]" installs what this command '
        "needs\n"
    )
    assert captured.err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_said_before_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in (tmp_path, tmp_path / "missing" / "all.json"):
        assert main(["--json", str(target)]) == 2
        assert f"{str(target)!r} cannot be written" in capsys.readouterr().err
    assert main(["--picture", str(tmp_path / "bands.txt")]) == 2
    assert "must end in .png" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--seeds", "x"], ["--task", "else"]])
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[1] in capsys.readouterr().err
