"""The picture: reliability diagrams above, histograms of confidence below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoarfrost import metric
from hoarfrost.examples.comparison import CONFIDENCE, Measure, Predictions

# Two colours that people with any colour vision tell apart (Okabe and Ito), and two shapes.
_MAP = {"color": "#0072B2", "marker": "o", "label": "MAP"}
_LAPLACE = {"color": "#D55E00", "marker": "s", "label": "Laplace"}
_N_BINS = 10
_GREY = "#777777"


def draw(
    labelled: Sequence[Predictions],
    unlabelled: Sequence[Predictions],
    measures: Mapping[str, Mapping[str, Measure]],
    path: Path,
) -> None:
    """Draw the picture into a file, without a display.

    Parameters
    ----------
    labelled : sequence of two Predictions
        Of digits, as they are and rotated.
    unlabelled : sequence of Predictions
        Of inputs that are no digits, shown together.
    measures : mapping
        Of each kind of inputs, by its name; the titles say them.
    path : Path
        Where to, in the format of its ending.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.2), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    figure.suptitle(_headline(labelled, unlabelled, measures), fontsize=13, weight="bold")
    _reliability_row(upper, labelled, measures)
    _confidence_row(lower, [*labelled, _pooled(unlabelled)])
    figure.savefig(path, dpi=150)


def _headline(
    labelled: Sequence[Predictions],
    unlabelled: Sequence[Predictions],
    measures: Mapping[str, Mapping[str, Measure]],
) -> str:
    lines = [f"ECE on {part.name} {measures[part.name]['ECE']}" for part in labelled]
    pooled = _pooled(unlabelled)
    before, after = (p.max(axis=1).mean() for p in (pooled.by_map, pooled.by_laplace))
    lines.append(f"mean confidence on what is no digit {before:.3f} -> {after:.3f}")
    return "From MAP to Laplace: " + ",\n".join((", ".join(lines[:-1]), lines[-1])).replace(
        "->", "\N{RIGHTWARDS ARROW}"
    )


def _pooled(parts: Sequence[Predictions]) -> Predictions:
    return Predictions(
        "no digits: " + ", ".join(part.name for part in parts),
        np.concatenate([part.by_map for part in parts]),
        np.concatenate([part.by_laplace for part in parts]),
        None,
    )


def _reliability_row(
    figure: Any, parts: Sequence[Predictions], measures: Mapping[str, Mapping[str, Measure]]
) -> None:
    axes = figure.subplots(1, len(parts), sharex=True, sharey=True)
    for axis, part in zip(axes, parts, strict=True):
        axis.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
        for probabilities, style in ((part.by_map, _MAP), (part.by_laplace, _LAPLACE)):
            _reliability_curve(axis, probabilities, part.targets, style)
        found = measures[part.name]
        axis.set_title(
            f"{part.name} ({len(part.by_map)}): accuracy {found['accuracy'].by_map:.1%} / "
            f"{found['accuracy'].by_laplace:.1%}",
            fontsize=11,
        )
        axis.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axis.set_xlabel("confidence")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("fraction that is right")
    axes[0].text(0.3, 0.36, "as sure as right", color=_GREY, rotation=45, fontsize=9)
    axes[0].legend(loc="lower right", title="area of a mark:\nnumber of points", fontsize=9)
