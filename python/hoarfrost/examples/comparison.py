"""MAP against Laplace: scores, what chance makes of their differences, a table and sentences.

No sentence here holds a finding: each follows from the numbers, also when Laplace loses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hoarfrost import metric

N_BINS = 15
SCORES = ("accuracy", "NLL", "ECE")
CONFIDENCE = "confidence"
NUM_RESAMPLES = 500
_NORMAL_95 = 1.96


@dataclass(frozen=True)
class Predictions:
    """What the two methods say of the same inputs.

    Attributes
    ----------
    name : str
        What the inputs are.
    by_map, by_laplace : ndarray
        Probabilities of the classes, shape ``(N, C)``.
    targets : ndarray or None
        Classes, shape ``(N,)``; None where the inputs belong to none.
    """

    name: str
    by_map: np.ndarray
    by_laplace: np.ndarray
    targets: np.ndarray | None


@dataclass(frozen=True)
class Measure:
    """One number of each method on the same inputs.

    Attributes
    ----------
    name : str
        "accuracy", "NLL", "ECE" or "confidence" (its mean).
    by_map, by_laplace : float
        The numbers.
    standard_error : float
        Of their difference, by resampling the inputs in pairs.
    """

    name: str
    by_map: float
    by_laplace: float
    standard_error: float

    @property
    def verdict(self) -> str:
        """Whether Laplace's is "higher" or "lower", or the "same" as far as chance lets us see."""
        difference = self.by_laplace - self.by_map
        printed = {_number(self.name, value) for value in (self.by_map, self.by_laplace)}
        if len(printed) == 1 or abs(difference) <= _NORMAL_95 * self.standard_error:
            return "same"
        return "higher" if difference > 0 else "lower"

    @property
    def standard_errors(self) -> float:
        """How many of its standard errors the difference is."""
        difference = abs(self.by_laplace - self.by_map)
        if self.standard_error == 0:
            return 0.0 if difference == 0 else math.inf
        return difference / self.standard_error

    def __str__(self) -> str:
        return f"{_number(self.name, self.by_map)} -> {_number(self.name, self.by_laplace)}"


def compare(predictions: Predictions, seed: int) -> dict[str, Measure]:
    """Score both methods: accuracy, NLL and ECE where there are targets, and mean confidence.

    Parameters
    ----------
    predictions : Predictions
        Of one kind of inputs.
    seed : int
        Of the resampling behind the standard errors.
    """
    count = len(predictions.by_map)
    generator = np.random.default_rng(seed)
    # How often each point is drawn; the same draws for both methods make the differences paired.
    weights = generator.multinomial(count, np.full(count, 1 / count), size=NUM_RESAMPLES)
    values, resampled = [], []
    for probabilities in (predictions.by_map, predictions.by_laplace):
        values.append(_scores(probabilities, predictions.targets))
        resampled.append(_weighted_scores(probabilities, predictions.targets, weights / count))
    return {
        name: Measure(
            name=name,
            by_map=values[0][name],
            by_laplace=values[1][name],
            standard_error=float(np.std(resampled[1][name] - resampled[0][name])),
        )
        for name in values[0]
    }


def pooled(name: str, parts: Sequence[Predictions]) -> Predictions:
    """Several kinds of inputs without targets as one."""
    return Predictions(
        name,
        np.concatenate([part.by_map for part in parts]),
        np.concatenate([part.by_laplace for part in parts]),
        None,
    )


def table(rows: Mapping[str, Mapping[str, Measure]]) -> str:
    """A printable table: a row for each kind of inputs, a pair of columns for each measure."""
    names = (*SCORES, CONFIDENCE)
    width = max(map(len, rows)) + 2
    headings = ("accuracy", "NLL (nats)", "ECE", "mean confidence")
    lines = [
        "".ljust(width) + "".join(f"{heading:^20}" for heading in headings),
        "".ljust(width) + f"{'MAP':>9}{'Laplace':>9}  " * len(headings),
    ]
    for label, measures in rows.items():
        cells = []
        for name in names:
            pair = ("-", "-")
            if name in measures:
                found = measures[name]
                pair = (_number(name, found.by_map), _number(name, found.by_laplace))
            cells.append(f"{pair[0]:>9}{pair[1]:>9}  ")
        lines.append(label.ljust(width) + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def score_sentence(where: str, count: int, measures: Mapping[str, Measure]) -> str:
    """In what Laplace is worse and better than MAP, and in what chance cannot tell them apart.

    Parameters
    ----------
    where : str
        Name of the inputs.
    count : int
        How many they are.
    measures : mapping
        Accuracy, NLL and ECE on them.
    """
    groups: dict[str, list[str]] = {"worse": [], "better": [], "same": []}
    for name in SCORES:
        found = measures[name]
        good = "higher" if name == "accuracy" else "lower"
        kind = "better" if found.verdict == good else "worse"
        groups["same" if found.verdict == "same" else kind].append(f"{name} ({_told(found)})")
    if len(groups["same"]) == len(SCORES):
        return (
            f"On the {count} {where} no cost and no gain of Laplace can be told from chance: "
            f"{', '.join(groups['same'])}."
        )
    parts = [
        f"{kind} than MAP in {_and(groups[kind])}" for kind in ("worse", "better") if groups[kind]
    ]
    if groups["same"]:
        parts.append(f"not told apart from MAP in {_and(groups['same'])}")
    return f"On the {count} {where} Laplace is {'; '.join(parts)}."


def confidence_sentence(confidences: Mapping[str, Measure], num_classes: int) -> str:
    """What happens to the confidence where no answer is right.

    Parameters
    ----------
    confidences : mapping
        The mean confidence on each kind of inputs, by its name.
    num_classes : int
        C; a network that knew that it did not know would be sure to 1/C.
    """
    words = {"higher": "surer than MAP", "lower": "less sure than MAP", "same": "as sure as MAP"}
    groups: dict[str, list[str]] = {verdict: [] for verdict in words}
    for label, found in confidences.items():
        groups[found.verdict].append(f"{label} ({_told(found)})")
    parts = [f"{words[verdict]} on {_and(found)}" for verdict, found in groups.items() if found]
    return (
        f"Where there is no digit Laplace is {'; '.join(parts)}. Knowing nothing would be "
        f"{1 / num_classes:.3f}."
    )


def gap(sure: float, right: float) -> str:
    """How far a confidence is above or below an accuracy, in words."""
    return f"{abs(sure - right) * 100:.1f} points {'above' if sure >= right else 'below'}"


def _told(found: Measure) -> str:
    """Both numbers, and how far apart they are."""
    return f"{found}, {found.standard_errors:.1f} standard errors"


def _scores(probabilities: np.ndarray, targets: np.ndarray | None) -> dict[str, float]:
    scores = {}
    if targets is not None:
        labels = probabilities.argmax(axis=1)
        scores = {
            "accuracy": float(metric.accuracy(labels, targets)),
            "NLL": float(metric.nll(probabilities, targets)),
            "ECE": float(metric.ece(labels, probabilities, targets, n_bins=N_BINS)),
        }
    return {**scores, CONFIDENCE: float(probabilities.max(axis=1).mean())}


def _weighted_scores(
    probabilities: np.ndarray, targets: np.ndarray | None, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """The scores under each row of weights, shape ``(R, N)``, that add up to one."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    scores = {CONFIDENCE: weights @ confidence}
    if targets is None:
        return scores
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    bins = np.searchsorted(np.linspace(0, 1, N_BINS + 1)[1:-1], confidence)
    gaps = np.eye(N_BINS)[bins] * (right - confidence)[:, None]
    return {
        **scores,
        "accuracy": weights @ right,
        "NLL": weights @ -np.log(np.maximum(chosen, np.finfo(np.float64).tiny)),
        "ECE": np.abs(weights @ gaps).sum(axis=1),
    }


def _number(name: str, value: float) -> str:
    return f"{value:.1%}" if name == "accuracy" else f"{value:.3f}"


def _and(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
