"""The signals as they are shown: tables, and what was won and lost by how many standard errors.

No sentence here holds a finding: each follows from the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hoarfrost.examples.comparison import N_BINS
from hoarfrost.examples.results.scores import Summary, summarise
from hoarfrost.examples.signals import (
    LAPLACE,
    MAP,
    METHODS,
    NUM_TEST,
    SCORES,
    SHOWN,
    TEMPERATURE,
    Signals,
    held_out,
)

_KINDS = {"better": "won", "worse": "lost", "same": "no difference beyond chance"}
VERDICTS = {"better": "better than", "worse": "worse than", "same": "not told apart from"}
_HEADINGS = {"NLL": "NLL (nats)", "ECE": "ECE", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Difference:
    """One score of two methods over the same seeds.

    Attributes
    ----------
    score : str
        "NLL", "ECE" or "accuracy".
    before, after : float
        The means of the method that is held against, and of the one that is judged.
    paired : Summary
        Of the differences, one a seed.
    num_seeds : int
        How many they are.
    """

    score: str
    before: float
    after: float
    paired: Summary
    num_seeds: int

    @property
    def standard_errors(self) -> float:
        """How many of its standard errors the difference is; NaN for one seed."""
        error = self.paired.standard_error
        if error == 0:
            return 0.0 if self.paired.mean == 0 else math.inf
        return abs(self.paired.mean) / error

    @property
    def verdict(self) -> str:
        """Whether the judged method is "better", "worse" or the "same" as far as one can see."""
        if not self.standard_errors > threshold(self.num_seeds):
            return "same"
        return "better" if (self.paired.mean > 0) == (self.score == "accuracy") else "worse"

    def __str__(self) -> str:
        values = " -> ".join(f"{value:.3f}" for value in (self.before, self.after))
        return f"{self.score} ({values}), {self.standard_errors:.1f} standard errors"


def difference(signals: Signals, labels: int, ours: str, theirs: str, score: str) -> Difference:
    """One score of a method against another's, the seeds being paired."""
    before, after = (signals.scores[labels][method][score] for method in (theirs, ours))
    return Difference(
        score,
        summarise(before).mean,
        summarise(after).mean,
        summarise([b - a for a, b in zip(before, after, strict=True)]),
        len(before),
    )


def threshold(num_seeds: int) -> float:
    """Standard errors beyond which chance takes a difference once in twenty: Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(num_seeds - 1, 0.975)) if num_seeds > 1 else math.inf


def table(signals: Signals) -> str:
    """Every score of every method at `SHOWN` labels: mean and standard error over the seeds."""
    kept = SHOWN - held_out(SHOWN)
    labels = {MAP: f"{SHOWN:,}", TEMPERATURE: f"{kept:,} + {held_out(SHOWN):,}"}
    rows = ["".ljust(22) + f"{'labels':>11}" + "".join(f"{_HEADINGS[s]:>17}" for s in SCORES)]
    for method in METHODS:
        cells = [str(summarise(signals.scores[SHOWN][method][score])) for score in SCORES]
        row = method.ljust(22) + f"{labels.get(method, labels[MAP]):>11}"
        rows.append(row + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(rows)


def by_labels(signals: Signals) -> str:
    """The means of every score for every number of labels."""
    short = {TEMPERATURE: "temp."}
    names = "".join(f"{short.get(method, method):>8}" for method in METHODS)
    rows = [
        ("".ljust(8) + "".join(f"   {_HEADINGS[s]:^24}" for s in SCORES)).rstrip(),
        f"{'labels':>8}" + f"   {names}" * len(SCORES),
    ]
    for labels, found in signals.scores.items():
        row = f"{labels:>8,}"
        for score in SCORES:
            means = [summarise(found[method][score]).mean for method in METHODS]
            row += "   " + "".join(f"{mean:>8.3f}" for mean in means)
        rows.append(row)
    return "\n".join(rows)


def sentences(signals: Signals) -> list[str]:
    """What Laplace won and lost at `SHOWN` labels, against MAP and against temperature scaling."""
    said = []
    out = f"which keeps {held_out(SHOWN)} labels from its network"
    about = {MAP: f"with the same {SHOWN:,} labels", TEMPERATURE: out}
    for theirs in (MAP, TEMPERATURE):
        said.append(f"{LAPLACE} against {theirs}, {about[theirs]}")
        found = [difference(signals, SHOWN, LAPLACE, theirs, score) for score in SCORES]
        for kind, word in _KINDS.items():
            named = [str(one) for one in found if one.verdict == kind]
            said += [f"  {word}: {one}" for one in named or ["nothing"]]
    return said


def other_losses(signals: Signals) -> str:
    """In what Laplace loses with other numbers of labels than `SHOWN`."""
    lost = [
        f"to {theirs} with {labels:,}: {found}"
        for labels in signals.scores
        for theirs in (MAP, TEMPERATURE)
        for score in SCORES
        if labels != SHOWN
        and (found := difference(signals, labels, LAPLACE, theirs, score)).verdict == "worse"
    ]
    return f"With other numbers of labels {LAPLACE} lost: {'; '.join(lost) or 'nothing'}."


def headline(signals: Signals) -> str:
    """What the picture shows, in two lines that follow from the numbers."""
    lines = []
    for score in ("NLL", "accuracy"):
        words = [
            f"{VERDICTS[difference(signals, SHOWN, LAPLACE, theirs, score).verdict]} {theirs}'s"
            for theirs in (MAP, TEMPERATURE)
        ]
        lines.append(f"{score} is {' and '.join(words)}")
    return f"Signals, {SHOWN:,} labels: {LAPLACE}'s {lines[0]};\nits {lines[1]}"


def notes(num_seeds: int) -> Sequence[str]:
    """What the tables' words mean."""
    return (
        f"Numbers are means over {num_seeds} seeds, each with signals and a network of its own and "
        f"{NUM_TEST:,} test signals, ± their standard errors. A difference is told from chance "
        f"where it exceeds {threshold(num_seeds):.1f} of the standard errors of its paired values: "
        "with so few seeds chance does so once in twenty.",
        "NLL: minus the mean log-probability of the right class. ECE: mean gap between confidence "
        f"and accuracy over {N_BINS} bins. "
        f"{TEMPERATURE.capitalize()}: trained on four fifths of the labels; the last fifth chooses "
        f"the number that divides its logits. {LAPLACE}: the posterior over the last "
        "layer of the MAP network, its prior precision that of the largest evidence, so that no "
        "label is held out; it predicts by its probit link.",
    )
