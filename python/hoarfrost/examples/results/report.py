"""Tables for a README, and sentences that follow from their numbers.

No sentence here holds a finding: each is made from the verdicts, also where Laplace loses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hoarfrost.examples.results.classifiers import BASELINES, LAPLACES, METHODS
from hoarfrost.examples.results.digit_tasks import is_printed, rotated_digits, unknown_digits
from hoarfrost.examples.results.regression_tasks import diabetes, friedman
from hoarfrost.examples.results.scores import Row, Scores, summarise, verdict

# Of every method one number a seed.
Collected = Mapping[Row, Mapping[str, Sequence[float]]]

ABOUT_METHODS = (
    "All methods start from the same trained network (MAP under a standard normal prior, Adam "
    "3e-3), one a seed. Temp. scaling: MAP with one temperature fitted to the validation data. "
    "Laplace diag.: diagonal covariance, prior precision at the largest evidence. Laplace evid.: "
    "full covariance, likewise. Laplace val.: full covariance, prior precision chosen on the "
    "validation data (for digits up to exp(10), where it is nearly MAP). Laplace val. T: a "
    "temperature of the likelihood chosen with it. Numbers are "
    "means over the seeds ± their standard errors."
)
ABOUT_SENTENCES = (
    "Loses and wins: the difference, paired by seed, is more than two of its standard errors and "
    "shows in the third decimal; five seeds are few, and among so many comparisons some come out "
    "by chance."
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
    printed : callable
        Whether a row stands in the table.
    """

    title: str
    about: str
    run: Callable[[int, bool], Scores]
    printed: Callable[[Row], bool] = lambda row: True


TASKS = {
    "rotated-digits": Task(
        "Rotated digits",
        "800 upright digits to train on, 400 to validate, 597 to test at every angle from 0° to "
        "180° by 15°; the mean is over all of these. Network 64-256-128-10, Laplace over its last "
        "layer (1,290 parameters), probit link.",
        rotated_digits,
        is_printed,
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
}


def table(collected: Collected, printed: Callable[[Row], bool]) -> str:
    """An aligned markdown table: a row for each score, a column for each method."""
    rows = [["score", "on", *METHODS]]
    for row in sorted((row for row in collected if printed(row)), key=_metric_order(collected)):
        values = collected[row]
        rows.append([*row, *(str(summarise(values[method])) for method in METHODS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # The first two columns are words, the others numbers.
    rule = [
        "-" * width if index < 2 else "-" * (width - 1) + ":" for index, width in enumerate(widths)
    ]
    lines = []
    for cells in (rows[0], rule, *rows[1:]):
        padded = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def sentences(collected: Collected, printed: Callable[[Row], bool]) -> list[str]:
    """For each Laplace and each baseline, where the first loses and where it wins.

    Those that lose somewhere stand before those that do not.
    """
    rows = sorted((row for row in collected if printed(row)), key=_metric_order(collected))
    several = {a.metric for a in rows for b in rows if a.metric == b.metric and a.where != b.where}
    if any(len(values) < 2 for values in collected[rows[0]].values()):
        return ["One seed has no standard error: nothing can be said of differences."]
    made = []
    for method in LAPLACES:
        for baseline in BASELINES:
            groups: dict[str, dict[str, list[str]]] = {"loses": {}, "wins": {}, "same": {}}
            for row in rows:
                found = verdict(row, collected[row][method], collected[row][baseline])
                if found is not None:
                    groups[found].setdefault(row.metric, []).append(row.where)
            parts = [
                f"**{kind}** in {_listed(groups[kind], several)}"
                for kind in ("loses", "wins")
                if groups[kind]
            ]
            if groups["same"]:
                parts.append(f"cannot be told apart in {_listed(groups['same'], several)}")
            sentence = f"- {method} against {baseline}: {'; '.join(parts)}."
            made.append((not groups["loses"], sentence))
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


def _metric_order(collected: Collected) -> Callable[[Row], int]:
    """Rows of the same score together, scores and rows in the order in which they came."""
    metrics = list(dict.fromkeys(row.metric for row in collected))
    return lambda row: metrics.index(row.metric)


def _listed(where: Mapping[str, Sequence[str]], several: Collection[str]) -> str:
    """Scores, with the places of those that stand in several rows."""
    return ", ".join(
        f"{metric} ({', '.join(places)})" if metric in several else metric
        for metric, places in where.items()
    )
