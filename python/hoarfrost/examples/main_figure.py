"""The main job's picture: signals above, digits below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hoarfrost.examples.comparison import CONFIDENCE, Measure, Predictions
from hoarfrost.examples.digits import Digits
from hoarfrost.examples.figures import (
    LAPLACE_STYLE,
    MAP_STYLE,
    OTHER_STYLE,
    Panel,
    confidence_axis,
    headline,
    new_figure,
    reliability_axis,
    reliability_note,
)
from hoarfrost.examples.results.scores import summarise
from hoarfrost.examples.signals import LAPLACE, MAP, METHODS, SHOWN, TEMPERATURE, Signals
from hoarfrost.examples.signals_report import headline as signals_headline

# Characters of a row's title in a line.
_TITLE_WIDTH = 92
# By these the marks of equal methods stand beside each other.
_ASIDE = (0.97, 1.0, 1.03)
_STYLES: Mapping[str, Mapping[str, Any]] = {
    MAP: MAP_STYLE,
    TEMPERATURE: {**OTHER_STYLE, "label": TEMPERATURE},
    LAPLACE: LAPLACE_STYLE,
}


def draw(signals: Signals, digits: Digits, path: Path) -> None:
    """Draw both halves of the job into a file, without a display.

    Parameters
    ----------
    signals : Signals
        For the upper row: reliability, and NLL and accuracy against the number of labels.
    digits : Digits
        For the lower row: reliability on two kinds of digits, and confidence where there is none.
    path : Path
        Where to, in the format of its ending.
    """
    figure = new_figure((13, 10.5))
    upper, lower = figure.subfigures(2, 1, hspace=0.04)
    _signals_row(upper, signals)
    _digits_row(lower, digits)
    figure.savefig(path, dpi=120)


def _signals_row(figure: Any, signals: Signals) -> None:
    figure.suptitle(signals_headline(signals), weight="bold")
    left, middle, right = figure.subplots(1, 3)
    errors = ", ".join(
        f"{name} {summarise(signals.scores[SHOWN][method]['ECE']).mean:.3f}"
        for method, name in zip(METHODS, ("MAP", "temp.", "Laplace"), strict=True)
    )
    curves = [(signals.probabilities[method], _STYLES[method]) for method in METHODS]
    title = f"test signals, {SHOWN:,} labels\nECE: {errors}"
    reliability_axis(left, Panel(title, curves, signals.targets))
    left.set_ylabel("fraction predicted rightly")
    for axis, score, wanted in ((middle, "NLL", "low"), (right, "accuracy", "high")):
        _curve_axis(axis, signals, score)
        axis.set_title(
            f"{score} of test signals\n{wanted} is good; bars: standard errors", fontsize=11
        )
    reliability_note(figure, left)


def _curve_axis(axis: Any, signals: Signals, score: str) -> None:
    for method, aside in zip(METHODS, _ASIDE, strict=True):
        found = [summarise(by[method][score]) for by in signals.scores.values()]
        style = _STYLES[method]
        axis.errorbar(
            [labels * aside for labels in signals.scores],
            [one.mean for one in found],
            yerr=[one.standard_error for one in found],
            color=style["color"],
            marker=style["marker"],
            markersize=5,
            capsize=3,
            label=style["label"],
        )
    axis.set_xscale("log")
    axis.set_xticks(list(signals.scores), [f"{labels:,}" for labels in signals.scores])
    axis.minorticks_off()
    axis.set(xlabel="labels", ylabel=score)
    axis.grid(alpha=0.25)


def _digits_row(figure: Any, digits: Digits) -> None:
    finding = headline(
        [part.name for part in digits.labelled], digits.not_digits.name, digits.measures
    )
    finding = "Digits. " + " ".join(finding.split())
    figure.suptitle(textwrap.fill(finding, _TITLE_WIDTH), weight="bold")
    *known, last = figure.subplots(1, 3)
    for axis, part in zip(known, digits.labelled, strict=True):
        reliability_axis(axis, _panel(part, "ECE", digits.measures))
    known[0].set_ylabel("fraction predicted rightly")
    confidence_axis(last, _panel(digits.not_digits, CONFIDENCE, digits.measures))
    last.set_ylabel("fraction of inputs")
    reliability_note(figure, known[0])


def _panel(part: Predictions, name: str, measures: Mapping[str, Mapping[str, Measure]]) -> Panel:
    shown = "mean confidence" if name == CONFIDENCE else name
    found = measures[part.name][name]
    title = f"{part.name}\n{shown}: MAP {found.by_map:.3f}, Laplace {found.by_laplace:.3f}"
    curves = [(part.by_map, MAP_STYLE), (part.by_laplace, LAPLACE_STYLE)]
    return Panel(title, curves, part.targets)
