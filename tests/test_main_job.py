"""The main job as a command: what it prints, what it writes, and what it refuses to start."""

from __future__ import annotations

import itertools
import math
import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Run, run

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from hoarfrost.__main__ import main
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.examples.command import Settings
from hoarfrost.examples.comparison import (
    Measure,
    Predictions,
    compare,
    confidence_sentence,
    score_sentence,
)
from hoarfrost.examples.digits import Digits
from hoarfrost.examples.digits_data import load_digits_data
from hoarfrost.examples.figures import headline
from hoarfrost.examples.main_job import conclusion
from hoarfrost.examples.output import check_destination, write_whole
from hoarfrost.examples.signals import Signals

DIGITS = ("test digits", "rotated digits")
OTHERS = ("photo patches", "shuffled pixels", "uniform noise")
PICTURE = "hoarfrost.png"
SIGNAL_METHODS = ("MAP", "temperature scaling", "Laplace")


@pytest.fixture(scope="module")
def quick(quick_run: Callable[[str], Run]) -> Run:
    """One quick run, in a folder that holds an older picture."""
    done = quick_run("hoarfrost")
    assert done.code == 0, done.stderr
    return done


def table_rows(printed: str) -> dict[str, list[str]]:
    rows = {}
    for line in printed.splitlines():
        for name in (*DIGITS, *OTHERS):
            if line.startswith(name + "  "):
                assert name not in rows
                rows[name] = line.removeprefix(name).split()
    return rows


def test_signals_come_first_with_every_score_of_every_method(quick: Run) -> None:
    first, second = quick.stdout.split("\n2. ")
    assert first.startswith("1. Signals") and second.startswith("Digits")
    for method, labels in zip(SIGNAL_METHODS, ("1,000", "800 + 200", "1,000"), strict=True):
        [row] = re.findall(rf"^{method} +{re.escape(labels)}  (.*)$", first, re.MULTILINE)
        pairs = re.findall(r"([\d.]+) ± ([\d.]+)", row)
        assert len(pairs) == 3
        nll, ece, accuracy = (float(mean) for mean, _ in pairs)
        # Better than guessing one of ten even in a quick run.
        assert 0 < nll < math.log(10) and 0 <= ece < 0.5 and 0.2 < accuracy < 1
        assert all(0 < float(error) < 0.5 for _, error in pairs)
    curves = re.findall(r"^ +([\d,]+)((?: +[\d.]+){9})$", first, re.MULTILINE)
    assert [labels for labels, _ in curves] == ["200", "500", "1,000", "2,000"]
    # The same numbers at 1,000 labels, and more labels make a better network.
    means = [[float(number) for number in numbers.split()] for _, numbers in curves]
    assert f"MAP{'1,000':>30}    {means[2][0]:.3f} ± " in first
    assert means[3][6] > means[0][6]
    for theirs in SIGNAL_METHODS[:2]:
        after = first[first.index(f"Laplace against {theirs}, ") :].splitlines()[1:]
        judged = list(itertools.takewhile(lambda line: line.startswith("  "), after))
        kinds = ("  won: ", "  lost: ", "  no difference beyond chance: ")
        assert all(any(line.startswith(kind) for line in judged) for kind in kinds)
        scores = [line for line in judged if line.endswith(" standard errors")]
        assert len(scores) == 3 and len(judged) - len(scores) == sum("nothing" in j for j in judged)


def test_the_table_holds_every_row_with_sound_numbers(quick: Run) -> None:
    rows = table_rows(quick.stdout)
    assert set(rows) == {*DIGITS, *OTHERS}
    for name in DIGITS:
        accuracies, rest = rows[name][:2], [float(cell) for cell in rows[name][2:]]
        assert all(0 <= float(cell.removesuffix("%")) <= 100 for cell in accuracies)
        assert len(rest) == 6 and all(math.isfinite(value) for value in rest)
        nll, ece, confidence = rest[:2], rest[2:4], rest[4:]
        assert all(value > 0 for value in nll)
        assert all(0 <= value <= 1 for value in ece)
        assert all(0.1 <= value <= 1 for value in confidence)
    for name in OTHERS:
        assert rows[name][:6] == ["-"] * 6
        assert all(0.1 <= float(cell) <= 1 for cell in rows[name][6:]) and len(rows[name]) == 8
    # The network has learnt something, and rotated digits are harder.
    accuracy = {name: float(rows[name][0].removesuffix("%")) for name in DIGITS}
    assert accuracy["test digits"] > 85
    assert accuracy["rotated digits"] < accuracy["test digits"]


def test_selection_memory_prior_and_progress_are_shown(quick: Run) -> None:
    printed, errors = quick.stdout, quick.stderr
    selection = {line.split()[0]: line for line in printed.splitlines() if "model/params" in line}
    trainable = {path for path, line in selection.items() if " trainable " in line}
    assert trainable == {"model/params/head/kernel", "model/params/head/bias"}
    assert len(selection) == 6
    memory, prior = printed.index("Memory, before any"), printed.index("Prior precision: ")
    assert printed.index("model/params/head/kernel") < memory < prior
    assert float(printed[prior:].split()[2]) > 0
    assert "400 validation digits" in printed[prior:]
    assert "Epoch: 20" in errors and "Curvature" in errors


def test_the_picture_replaces_an_older_one_and_is_a_png(quick: Run) -> None:
    content = (quick.folder / PICTURE).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert 1000 <= width <= 3000 and 1000 <= height <= 3000
    assert len(content) > 20_000
    assert [path.name for path in quick.folder.iterdir()] == [PICTURE]


def test_the_same_seed_prints_the_same(quick: Run, tmp_path: Path) -> None:
    options = ("--quick", "--seed", "0", "--output", str(tmp_path))
    cache = quick.folder.parent / "compiled"
    again = run("hoarfrost", *options, folder=quick.folder, cache=cache)
    assert again.code == 0, again.stderr

    def after(printed: str) -> str:  # the free memory, which is printed before it, changes
        return printed[printed.index("Posterior:") : printed.index("\nPicture:")]

    def signals(printed: str) -> str:
        return printed[: printed.index("\n2. ")]

    assert signals(again.stdout) == signals(quick.stdout)
    assert after(again.stdout) == after(quick.stdout)
    pictures = (quick.folder / PICTURE, tmp_path / PICTURE)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_every_option_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Settings] = []
    monkeypatch.setattr("hoarfrost.examples.main_job.run", started.append)
    picture = tmp_path / "again.svg"
    for arguments in (
        ["--quick", "--seed", "3", "--output", str(tmp_path)],
        ["--epochs", "7", "--picture", str(picture)],
    ):
        assert main(arguments) == 0
    assert started == [
        Settings(picture=tmp_path / PICTURE, seed=3, epochs=20),
        Settings(picture=picture, seed=0, epochs=7),
    ]


def test_another_seed_gives_other_data() -> None:
    first, again, other = (load_digits_data(seed) for seed in (0, 0, 1))
    assert np.array_equal(first.not_digits[0].inputs, again.not_digits[0].inputs)
    assert np.array_equal(first.test.inputs, again.test.inputs)
    assert not np.array_equal(first.test.inputs, other.test.inputs)
    for points in (first.train, first.rotated, *first.not_digits):
        assert points.inputs.dtype == np.float32
        assert points.inputs.min() >= 0 and points.inputs.max() <= 1
    sizes = [len(points.inputs) for points in (first.train, first.validation, first.test)]
    assert sum(sizes) == 1797


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "{folder}/none"], "none' does not exist; make it first"),
        (["--picture", "{folder}/none/a.png"], "none' does not exist; make it first"),
        (["--picture", "{folder}/a.txt"], "a.txt' must end in .png, .pdf or .svg"),
        (["--picture", "{folder}/sub.png"], "sub.png' is a folder; name a file in it"),
    ],
)
def test_a_bad_destination_is_found_before_the_work(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sub.png").mkdir()
    monkeypatch.setattr("hoarfrost.examples.main_job.run", lambda settings: pytest.fail("it ran"))
    assert main([part.format(folder=tmp_path) for part in arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # root may write anywhere: file modes do not help
    with pytest.raises(InvalidArgumentError, match=r"cannot be written to \(Permission denied\)"):
        check_destination(tmp_path / "a.png")


@pytest.mark.parametrize("module", ["sklearn", "matplotlib"])
def test_a_missing_package_is_one_plain_line(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert 'pip install "hoarfrost[demo]"' in said and module in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--epochs", "0"], ["--seed", "-1"], ["--seed", "x"], ["--quick", "--epochs", "3"]],
)
def test_bad_numbers_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[-2] in capsys.readouterr().err


def test_an_unfinished_picture_leaves_the_old_one(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"old")

    def half(path: Path) -> None:
        path.write_bytes(b"ha")
        raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match="No space left"):
        write_whole(picture, half)
    assert picture.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [picture]


def measured(name: str, by_map: float, by_laplace: float, error: float = 0.01) -> Measure:
    return Measure(name, by_map, by_laplace, error)


def test_the_words_follow_from_the_numbers() -> None:
    losing = {
        "accuracy": measured("accuracy", 0.98, 0.90),
        "NLL": measured("NLL", 0.1, 0.3),
        "ECE": measured("ECE", 0.02, 0.2),
    }
    assert score_sentence("digits", 50, losing) == (
        "On the 50 digits Laplace is worse than MAP in accuracy (98.0% -> 90.0%, 8.0 standard "
        "errors), NLL (0.100 -> 0.300, 20.0 standard errors) and ECE (0.020 -> 0.200, 18.0 "
        "standard errors)."
    )
    mixed = {**losing, "NLL": measured("NLL", 0.3, 0.1), "ECE": measured("ECE", 0.2, 0.19)}
    assert score_sentence("digits", 50, mixed) == (
        "On the 50 digits Laplace is worse than MAP in accuracy (98.0% -> 90.0%, 8.0 standard "
        "errors); better than MAP in NLL (0.300 -> 0.100, 20.0 standard errors); not told apart "
        "from MAP in ECE (0.200 -> 0.190, 1.0 standard errors)."
    )
    even = {
        "accuracy": measured("accuracy", 0.98, 0.97),
        "NLL": measured("NLL", 0.3, 0.29),
        # A difference beyond chance that the printed digits do not show.
        "ECE": measured("ECE", 0.2951, 0.2953, error=1e-6),
    }
    assert score_sentence("digits", 50, even) == (
        "On the 50 digits no cost and no gain of Laplace can be told from chance: "
        "accuracy (98.0% -> 97.0%, 1.0 standard errors), NLL (0.300 -> 0.290, 1.0 standard "
        "errors), ECE (0.295 -> 0.295, 200.0 standard errors)."
    )
    surer = confidence_sentence({"noise": measured("confidence", 0.5, 0.9)}, 10)
    assert surer.startswith(
        "Where there is no digit Laplace is surer than MAP on noise (0.500 -> 0.900, 40.0 standard"
    )
    assert measured("NLL", 0.3, 0.3, error=0.0).standard_errors == 0
    found = {"digits": losing, "turned": mixed, "none": {"confidence": losing["ECE"]}}
    assert headline(["digits", "turned"], "none", found) == (
        "Laplace is worse calibrated than MAP on digits, about as calibrated as MAP on turned,\n"
        "and surer than MAP where there is no digit"
    )


def test_the_conclusion_follows_from_the_numbers() -> None:
    targets = np.zeros(4, np.int32)
    sure = np.tile([0.9, 0.1], (4, 1))
    sure[2:] = sure[2:, ::-1]
    scores = {method: {"NLL": [0.5, 0.6, 0.8]} for method in SIGNAL_METHODS}
    scores["Laplace"] = {"NLL": [0.1, 0.2, 0.4]}
    signals = Signals({1000: scores}, {"MAP": sure}, targets)
    measures = {
        "accuracy": measured("accuracy", 0.98, 0.90),
        "NLL": measured("NLL", 0.1, 0.3),
        "confidence": measured("confidence", 0.96, 0.8),
    }
    found = Digits(
        [Predictions("test digits", sure, sure, targets)], None, {"test digits": measures}
    )
    assert conclusion(signals, found) == (
        "Both together: on signals MAP's mean confidence is 40.0 points above its accuracy, and "
        "Laplace's NLL is better than MAP's; on test digits it is 2.0 points below it, and "
        "Laplace's NLL is worse than MAP's."
    )


def test_measures_are_those_of_the_predictions_and_chance_is_told() -> None:
    generator = np.random.default_rng(5)
    targets = generator.integers(0, 3, 400)
    sharp = np.full((400, 3), 0.01)
    sharp[np.arange(400), np.where(np.arange(400) < 300, targets, (targets + 1) % 3)] = 0.98
    flat = 0.5 * sharp + 0.5 / 3
    found = compare(Predictions("p", sharp, flat, targets), seed=0)
    assert found["accuracy"].by_map == found["accuracy"].by_laplace == pytest.approx(0.75)
    assert found["accuracy"].verdict == "same"
    assert found["confidence"].by_map == pytest.approx(0.98)
    assert found["ECE"].by_map == pytest.approx(0.23, rel=1e-4)
    expected = -np.log(np.where(np.arange(400) < 300, 0.98, 0.01)).mean()
    assert found["NLL"].by_map == pytest.approx(expected, rel=1e-5)
    assert found["NLL"].verdict == "lower" and found["confidence"].verdict == "lower"
    # The standard error of a mean of paired differences has a closed form.
    difference = -np.log(flat[np.arange(400), targets]) + np.log(sharp[np.arange(400), targets])
    assert found["NLL"].standard_error == pytest.approx(difference.std() / 20, rel=0.15)
    nearly = compare(Predictions("p", sharp, 0.9999 * sharp + 0.0001 / 3, targets), seed=0)
    assert nearly["accuracy"].verdict == "same"
