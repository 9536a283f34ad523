"""Tables for a README, and sentences that follow from their numbers.

No sentence here holds a finding: each is made from the verdicts, also where Laplace loses.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoarfrost.examples.results import gap_task, whole_task
from hoarfrost.examples.results.contests import (
    OF_NARROW,
    OF_WIDE,
    ON_SIGNALS,
    SIX,
    WITH_GAPS,
    Contest,
)
from hoarfrost.examples.results.digit_tasks import is_printed, rotated_digits, unknown_digits
from hoarfrost.examples.results.gap_figure import draw_bands
from hoarfrost.examples.results.regression_tasks import diabetes, friedman
from hoarfrost.examples.results.scores import Row, Scores, summarise, verdict
from hoarfrost.examples.results.signal_tasks import WRONG, signals, wrong_labels
from hoarfrost.examples.results.tables import Collected, shown

ABOUT = (
    "Numbers are means over the seeds ± their standard errors. Loses and wins: the difference, "
    "paired by seed, is more than two of its standard errors and shows in the third decimal; five "
    "seeds are few, and among so many comparisons some come out by chance."
)
_ABOUT_NUMBERS = (
    "inputs and targets standardised. Network 10-50-1 with tanh, stopped where the validation loss "
    "is best (without that its MAP overfits), Laplace over all of its 601 parameters (linearised, "
    "so that all methods have the same mean and RMSE). The noise is one number, learnt with MAP, "
    "tuned together with the prior precision by each Laplace (by evidence, or on validation data). "
    "Coverage: of the 90 % interval, at best 0.900."
)


@dataclass(frozen=True)
class Task:
    """One experiment.

    Attributes
    ----------
    title, about : str
        For the reader.
    run : callable
        From a seed, and whether to be quick, to scores.
    contest : Contest
        Its methods.
    printed : callable
        Whether a row stands in the table.
    draw : callable, optional
        Draws the first seed into a file, from whether to be quick and its path.
    """

    title: str
    about: str
    run: Callable[[int, bool], Scores]
    contest: Contest = SIX
    printed: Callable[[Row], bool] = lambda row: True
    draw: Callable[[bool, Path], None] | None = None


TASKS = {
    "signals": Task(
        "Signals by the number of labels",
        "One-dimensional signals of ten classes, made as MNIST-1D is, with 100 to 3,000 labels; "
        "2,000 to test.",
        signals,
        ON_SIGNALS,
    ),
    "wrong-labels": Task(
        "Signals with wrong labels",
        f"1,000 labels, of which {WRONG:.0%} are those of another class, drawn at random; so are "
        "those held out for validation. 2,000 signals to test, by their true labels and by labels "
        "as given: wrong as often.",
        wrong_labels,
        ON_SIGNALS,
    ),
    "rotated-digits": Task(
        "Rotated digits",
        "800 upright digits to train on, 400 to validate, 597 to test at every angle from 0° to "
        "180° by 15°; the mean is over all of these. Network 64-256-128-10, Laplace over its last "
        "layer (1,290 parameters), probit link.",
        rotated_digits,
        printed=is_printed,
    ),
    "unknown-digits": Task(
        "Held-out digits as unknown inputs",
        "Three classes, drawn anew for each seed, are held out; 560 digits of the seven others to "
        "train on, 280 to validate, the rest to test. AUROC: of the entropy, as a sign that a "
        "digit is of a held-out class. Network 64-256-128-7, Laplace over its last layer.",
        unknown_digits,
    ),
    "diabetes": Task(
        "Diabetes",
        f"264 patients to train on, 88 to validate, 90 to test; {_ABOUT_NUMBERS}",
        diabetes,
    ),
    "friedman": Task(
        "Friedman's first problem",
        f"200 points to train on, 100 to validate, 1,000 to test; {_ABOUT_NUMBERS}",
        friedman,
    ),
    "gaps": Task(
        "A line with gaps",
        gap_task.ABOUT,
        gap_task.gaps,
        WITH_GAPS,
        draw=draw_bands,
    ),
    "whole-narrow": Task(
        "A whole network against its last layer: few parameters",
        "4,810 parameters, of which 490 are the last layer's; 2,000 signals to test.",
        whole_task.narrow,
        OF_NARROW,
    ),
    "whole-wide": Task(
        "A whole network against its last layer: many parameters",
        "44,682 parameters, of which 1,290 are the last layer's; 2,000 signals to test.",
        whole_task.wide,
        OF_WIDE,
    ),
}


def sentences(
    collected: Collected, printed: Callable[[Row], bool], pairs: Sequence[tuple[str, str]]
) -> list[str]:
    """Of each pair of methods, where the first loses and where it wins.

    Those that lose somewhere stand before those that do not.
    """
    rows = shown(collected, printed)
    places = collections.Counter(row.metric for row in rows)
    if any(len(values) < 2 for values in collected[rows[0]].values()):
        return ["One seed has no standard error: nothing can be said of differences."]
    made = []
    for ours, theirs in pairs:
        groups: dict[str, dict[str, list[str]]] = {"loses": {}, "wins": {}, "same": {}}
        for row in rows:
            found = verdict(row, collected[row][ours], collected[row][theirs])
            if found is not None:
                groups[found].setdefault(row.metric, []).append(row.where)
        parts = [
            f"**{kind}** in {_listed(groups[kind], places)}"
            for kind in ("loses", "wins")
            if groups[kind]
        ]
        if groups["same"]:
            parts.append(f"cannot be told apart in {_listed(groups['same'], places)}")
        made.append((not groups["loses"], f"- {ours} against {theirs}: {'; '.join(parts)}."))
    return [sentence for _, sentence in sorted(made, key=lambda pair: pair[0])]


def as_json(collected: Collected) -> list[dict[str, Any]]:
    """All rows with the numbers of every seed; a standard error that does not exist is null."""
    records = []
    for row, by_method in collected.items():
        methods = {}
        for method, values in by_method.items():
            found = summarise(values)
            error = None if math.isnan(found.standard_error) else found.standard_error
            methods[method] = {
                "mean": found.mean,
                "standard_error": error,
                "seeds": list(values),
            }
        records.append({"score": row.metric, "on": row.where, "methods": methods})
    return records


def _listed(where: Mapping[str, Sequence[str]], places: Mapping[str, int]) -> str:
    """Scores, with their places unless these are all."""
    return ", ".join(
        metric if len(found) == places[metric] else f"{metric} ({', '.join(found)})"
        for metric, found in where.items()
    )
