"""The examples with a Bayesian head as commands: their tables, pictures and words."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Run

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from sklearn.metrics import roc_auc_score

from hoarfrost.examples import resnet, transformer
from hoarfrost.examples.command import Settings
from hoarfrost.examples.reviews import CLASSES, LENGTH, VOCABULARY, make_reviews, text_of
from hoarfrost.examples.scoreboard import (
    HEAD,
    MAP,
    TEMPERATURE,
    Answers,
    scored,
    table,
    words,
)

EXAMPLES = {
    "resnet": (resnet, ("test digits", "rotated digits"), 3),
    "transformer": (transformer, ("test reviews", "spoilt reviews"), 2),
}


@pytest.fixture(scope="module", params=EXAMPLES)
def quick(request: pytest.FixtureRequest, quick_run: Callable[[str], Run]) -> tuple[str, Run]:
    """One quick run of each."""
    done = quick_run(f"hoarfrost.examples.{request.param}")
    assert done.code == 0, done.stderr
    return request.param, done


def test_the_table_holds_every_score_of_every_method(quick: tuple[str, Run]) -> None:
    name, done = quick
    _, labelled, num_unknown = EXAMPLES[name]
    rows = re.findall(
        r"^(.*?)\s*(accuracy|NLL|ECE|confidence|AUROC)((?: +[\d.]+%?(?: [+-])?){3})$",
        done.stdout,
        re.MULTILINE,
    )
    scores = [score for _, score, _ in rows]
    assert scores == ["accuracy", "NLL", "ECE", "confidence"] * 2 + ["confidence", "AUROC"] * (
        num_unknown
    )
    assert [where for where, *_ in rows if where][:2] == list(labelled)
    for _, score, numbers in rows:
        found = [float(number.rstrip("%")) for number in re.findall(r"[\d.]+%?", numbers)]
        if score == "accuracy":
            # A temperature moves no class; a network that learnt nothing is told at once.
            assert found[0] == found[1] and 0 <= max(found) <= 100
        elif score != "NLL":
            assert all(0 <= number <= 1 for number in found)
    assert "The Bayesian head against MAP\n  won: " in done.stdout
    assert done.stdout.count("no difference beyond chance:") == 2
    assert f"On {labelled[1]} mean confidence is" in done.stdout
    assert "the exact posterior over" in done.stdout


def test_the_picture_is_a_png(quick: tuple[str, Run]) -> None:
    name, done = quick
    picture = done.folder / f"hoarfrost-{name}.png"
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 20_000
    assert min(struct.unpack(">II", content[16:24])) >= 1000
    assert [path.name for path in done.folder.iterdir()] == [picture.name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_option_arrives(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = EXAMPLES[name][0]
    started: list[Settings] = []
    monkeypatch.setattr(module, "run", started.append)
    assert module.main(["--quick", "--seed", "3", "--output", str(tmp_path)]) == 0
    assert module.main(["--epochs", "7", "--picture", str(tmp_path / "a.svg")]) == 0
    assert started == [
        Settings(picture=tmp_path / f"hoarfrost-{name}.png", seed=3, epochs=2),
        Settings(picture=tmp_path / "a.svg", seed=0, epochs=7),
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_bad_destination_is_found_before_the_work(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = EXAMPLES[name][0]
    monkeypatch.setattr(module, "run", lambda settings: pytest.fail("it ran"))
    assert module.main(["--picture", "a.txt"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"python -m hoarfrost.examples.{name}: ") and "must end in" in said


def test_reviews_mean_what_their_class_says() -> None:
    data = make_reviews(0)
    praise, blame = set(VOCABULARY[3:11]), set(VOCABULARY[11:19])
    for ids, target in zip(data.test.inputs["input_ids"], data.test.targets, strict=True):
        balance = 0
        for clause in re.split(" and | but ", text_of(ids)):
            said = clause.split()
            sign = 1 if praise & set(said) else -1
            assert bool(praise & set(said)) != bool(blame & set(said)), clause
            balance += -sign if {"not", "never", "hardly"} & set(said) else sign
        assert CLASSES[target] == ("blame", "neither", "praise")[1 + np.sign(balance)]


def test_reviews_are_padded_and_masked_and_drawn_from_the_seed() -> None:
    first, again, other = (make_reviews(seed) for seed in (0, 0, 1))
    parts = (first.train, first.validation, first.test, first.spoilt, *first.others)
    for part in parts:
        ids, mask = part.inputs["input_ids"], part.inputs["attention_mask"]
        assert ids.shape == mask.shape == (len(ids), LENGTH) and ids.dtype == np.int32
        np.testing.assert_array_equal(mask, ids != 0)
        assert ids.max() < len(VOCABULARY) and mask.any(axis=1).all()
    ids = first.train.inputs["input_ids"]
    np.testing.assert_array_equal(ids, again.train.inputs["input_ids"])
    assert not np.array_equal(ids, other.train.inputs["input_ids"])
    kitchen = set(np.unique(first.others[0].inputs["input_ids"])) - {0}
    assert kitchen.isdisjoint(np.unique(ids))
    changed = first.spoilt.inputs["input_ids"] != first.test.inputs["input_ids"]
    assert 0.15 < changed[first.test.inputs["attention_mask"]].mean() < 0.25


def answers(name: str, targets: np.ndarray | None, seed: int) -> Answers:
    generator = np.random.default_rng(seed)
    sharp = generator.dirichlet(np.full(3, 0.3), 300)
    if targets is not None:
        sharp[np.arange(300), targets] += 0.8
        sharp /= sharp.sum(axis=1, keepdims=True)
    flat = 0.6 * sharp + 0.4 / 3
    return Answers(name, {MAP: sharp, TEMPERATURE: sharp.copy(), HEAD: flat}, targets)


def test_scores_are_those_of_the_predictions_and_the_words_follow() -> None:
    targets = np.random.default_rng(1).integers(0, 3, 300)
    known, unknown = answers("known", targets, 2), answers("unknown", None, 3)
    lines = scored(known, [], [unknown], seed=0)
    assert [(line.where, line.score) for line in lines] == [
        *(("known", score) for score in ("accuracy", "NLL", "ECE", "confidence")),
        ("unknown", "confidence"),
        ("unknown", "AUROC"),
    ]
    verdicts = {(line.where, line.score): line.verdict(HEAD) for line in lines}
    assert verdicts["unknown", "confidence"] == "better"
    assert verdicts["known", "accuracy"] == "same" and verdicts["known", "confidence"] is None
    found = lines[-1].measures[HEAD]
    entropies = [
        -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)
        for p in (known.by_method[MAP], unknown.by_method[MAP])
    ]
    wanted = roc_auc_score(np.repeat([0, 1], 300), np.concatenate(entropies))
    assert found.by_map == pytest.approx(wanted, rel=1e-12)
    # The standard error of one AUROC is about that of a mean of placements (DeLong et al., 1988).
    assert 0 <= found.standard_error < 0.05
    # The same predictions are nobody's win.
    assert all(line.verdict(TEMPERATURE) in ("same", None) for line in lines)
    said = words(lines)
    assert said[:2] == ["The temperature against MAP", "  won: nothing"]
    assert any(line.startswith("  won: ") and "confidence on unknown" in line for line in said)
    printed = table(lines)
    assert "known    accuracy" in printed and printed.count("unknown") == 1
