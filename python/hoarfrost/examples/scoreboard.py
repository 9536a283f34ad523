"""Scores of several methods on known and on unknown inputs, told from chance, as a table and words.

No sentence here holds a finding: each follows from the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hoarfrost.examples.comparison import (
    CONFIDENCE,
    N_BINS,
    NUM_RESAMPLES,
    SCORES,
    Measure,
    Predictions,
    compare,
    gap,
)

MAP, TEMPERATURE, HEAD = "MAP", "temperature", "Bayesian head"
METHODS = (MAP, TEMPERATURE, HEAD)
AUROC = "AUROC"
_MARKS = {"better": "+", "worse": "-", "same": "", None: ""}
_KINDS = {"better": "won", "worse": "lost", "same": "no difference beyond chance"}
_LARGE_IS_GOOD = ("accuracy", AUROC)
NOTES = (
    "+ is better and - is worse than MAP, where the difference shows in the digits printed and "
    f"exceeds 1.96 of its standard errors ({NUM_RESAMPLES} paired resamples of the points). NLL: "
    "minus the mean log-probability of the right class. ECE: mean gap between confidence and "
    f"accuracy over {N_BINS} bins. AUROC: how well the entropy of a prediction tells these inputs "
    "from the test ones; 0.5 is chance.",
    "Temperature: MAP's logits divided by the number that is best for the validation points. "
    "Bayesian head: Laplace's probit link.",
)


@dataclass(frozen=True)
class Answers:
    """What every method says of the same inputs.

    Attributes
    ----------
    name : str
        What the inputs are.
    by_method : mapping
        Probabilities of the classes, shape ``(N, C)``, by the method's name.
    targets : ndarray or None
        Classes, shape ``(N,)``; None where the inputs belong to none.
    """

    name: str
    by_method: Mapping[str, np.ndarray]
    targets: np.ndarray | None = None


@dataclass(frozen=True)
class Line:
    """One score on one kind of inputs.

    Attributes
    ----------
    where, score : str
        The inputs and what is measured.
    measures : mapping
        By the name of each method but MAP, MAP's number and its own.
    good : bool or None
        Whether large is good; None where neither is.
    """

    where: str
    score: str
    measures: Mapping[str, Measure]
    good: bool | None

    def verdict(self, method: str) -> str | None:
        """Whether a method is "better" or "worse" than MAP, or the "same" as far as one can see."""
        found = self.measures[method].verdict
        if self.good is None or found == "same":
            return None if self.good is None else "same"
        return "better" if (found == "higher") == self.good else "worse"


def scored(
    test: Answers, shifted: Sequence[Answers], unknown: Sequence[Answers], seed: int
) -> list[Line]:
    """All scores: of the test points, of points with classes that are harder, of unknown inputs.

    Parameters
    ----------
    test : Answers
        Points like those of the training.
    shifted : sequence of Answers
        Points of the same classes, of another kind.
    unknown : sequence of Answers
        Inputs without a class; AUROC is against `test`.
    seed : int
        Of the resampling behind the verdicts.
    """
    lines = []
    others = [method for method in test.by_method if method != MAP]
    for part in (test, *shifted, *unknown):
        pairs = measured(part, seed)
        for score in (CONFIDENCE,) if part.targets is None else (*SCORES, CONFIDENCE):
            large = None if score == CONFIDENCE else score in _LARGE_IS_GOOD
            good = False if part.targets is None else large
            measures = {m: pairs[m][score] for m in others}
            lines.append(Line(part.name, score, measures, good))
        if part.targets is None:
            lines.append(Line(part.name, AUROC, _auroc(test, part, seed), True))
    return lines


def table(lines: Sequence[Line]) -> str:
    """A printable table: a row for each score, a column for each method."""
    methods = list(lines[0].measures)
    width = max(len(line.where) for line in lines) + 2
    rows = ["".ljust(width + 12) + f"{MAP:>9}" + "".join(f"{method:>17}" for method in methods)]
    before = None
    for line in lines:
        where = "" if line.where == before else line.where
        if where and before is not None:
            rows.append("")
        before = line.where
        first = line.measures[methods[0]]
        row = where.ljust(width) + line.score.ljust(12) + f"{_printed(line, first.by_map):>9}"
        for method in methods:
            mark = _MARKS[line.verdict(method)]
            row += f"{_printed(line, line.measures[method].by_laplace):>15}{mark:>2}"
        rows.append(row.rstrip())
    return "\n".join(rows)


def words(lines: Sequence[Line]) -> list[str]:
    """What each method wins and loses against MAP, then how its confidence fits its accuracy."""
    said = []
    judged = [line for line in lines if line.good is not None]
    for method in lines[0].measures:
        said.append(f"The {method} against MAP")
        for kind, word in _KINDS.items():
            found = [line for line in judged if line.verdict(method) == kind]
            said.append(f"  {word}: {_listed(found, method) if found else 'nothing'}")
    by_name = {(line.where, line.score): line for line in lines}
    for where in dict.fromkeys(line.where for line in lines if line.score == "accuracy"):
        right, sure = (by_name[where, score].measures for score in ("accuracy", CONFIDENCE))
        first = next(iter(right))
        gaps = [f"{gap(sure[first].by_map, right[first].by_map)} accuracy with {MAP}"]
        gaps += [f"{gap(sure[m].by_laplace, right[m].by_laplace)} with the {m}" for m in right]
        said.append(f"On {where} mean confidence is {', '.join(gaps)}.")
    return said


def measured(part: Answers, seed: int) -> dict[str, dict[str, Measure]]:
    """The scores of every method but MAP, each beside MAP's."""
    by_map = part.by_method[MAP]
    return {
        method: compare(Predictions(part.name, by_map, found, part.targets), seed)
        for method, found in part.by_method.items()
        if method != MAP
    }


def _auroc(test: Answers, unknown: Answers, seed: int) -> dict[str, Measure]:
    """Of the entropy, as a sign that an input is unknown, of each method against MAP."""
    generator = np.random.default_rng(seed)
    weights = [
        generator.multinomial(n, np.full(n, 1 / n), size=NUM_RESAMPLES) / n
        for n in (len(part.by_method[MAP]) for part in (test, unknown))
    ]
    values, resampled = {}, {}
    for method in test.by_method:
        known, other = (_entropy(part.by_method[method]) for part in (test, unknown))
        above = (other > known[:, None]) + 0.5 * (other == known[:, None])
        values[method] = float(above.mean())
        resampled[method] = np.sum((weights[0] @ above) * weights[1], axis=1)
    return {
        method: Measure(
            AUROC, values[MAP], value, float(np.std(resampled[method] - resampled[MAP]))
        )
        for method, value in values.items()
        if method != MAP
    }


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    sound = np.maximum(probabilities.astype(np.float64), np.finfo(np.float64).tiny)
    entropy: np.ndarray = -np.sum(sound * np.log(sound), axis=1)
    return entropy


def _printed(line: Line, value: float) -> str:
    return f"{value:.1%}" if line.score == "accuracy" else f"{value:.3f}"


def _listed(lines: Sequence[Line], method: str) -> str:
    by_score: dict[str, list[str]] = {}
    for line in lines:
        by_score.setdefault(line.score, []).append(f"{line.where} ({line.measures[method]})")
    return "; ".join(f"{score} on {', '.join(found)}" for score, found in by_score.items())
