"""The picture: reliability diagrams above, histograms of confidence below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hoarfrost import metric
from hoarfrost.examples.comparison import CONFIDENCE, N_BINS, Measure, Predictions

# Two colours that people with any colour vision tell apart (Okabe and Ito), and two shapes.
_MAP = {"color": "#0072B2", "marker": "o", "label": "MAP"}
_LAPLACE = {"color": "#D55E00", "marker": "s", "label": "Laplace"}
_GREY = "#666666"
# A bin with fewer points than this says little.
_FEW = 10


def draw(
    labelled: Sequence[Predictions],
    not_digits: Predictions,
    measures: Mapping[str, Mapping[str, Measure]],
    path: Path,
) -> None:
    """Draw the picture into a file, without a display.

    Parameters
    ----------
    labelled : sequence of Predictions
        Of digits, as they are and rotated.
    not_digits : Predictions
        Of inputs that are no digits.
    measures : mapping
        Of each of these, by its name.
    path : Path
        Where to, in the format of its ending.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(11, 10), layout="constrained")
    FigureCanvasAgg(figure)  # draws in memory: no display is looked for
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.65, 1))
    finding = headline([part.name for part in labelled], not_digits.name, measures)
    figure.suptitle(finding, fontsize=14, weight="bold")
    _reliability_row(upper, labelled, measures)
    _confidence_row(lower, [*labelled, not_digits], measures)
    figure.savefig(path, dpi=130)


def headline(
    labelled: Sequence[str], not_digits: str, measures: Mapping[str, Mapping[str, Measure]]
) -> str:
    """What the picture shows, in words that follow from the numbers.

    Parameters
    ----------
    labelled : sequence of str
        Names of the digits, as they are and rotated.
    not_digits : str
        Name of the inputs that are no digits.
    measures : mapping
        Of each of these.
    """
    calibrated = {
        "lower": "better calibrated than MAP",
        "higher": "worse calibrated than MAP",
        "same": "about as calibrated as MAP",
    }
    sure = {
        "lower": "less sure than MAP",
        "higher": "surer than MAP",
        "same": "about as sure as MAP",
    }
    parts = [f"{calibrated[measures[name]['ECE'].verdict]} on {name}" for name in labelled]
    parts.append(f"{sure[measures[not_digits][CONFIDENCE].verdict]} where there is no digit")
    return "Laplace is " + ", ".join(parts[:-1]) + ",\nand " + parts[-1]


def _reliability_row(
    figure: Any, parts: Sequence[Predictions], measures: Mapping[str, Mapping[str, Measure]]
) -> None:
    axes = figure.subplots(1, len(parts), sharex=True, sharey=True)
    for axis, part in zip(axes, parts, strict=True):
        axis.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
        # No confidence is below 1 / C, so that this corner is always free.
        axis.text(0.0, 0.045, "as right as sure", color=_GREY, rotation=45, fontsize=9)
        for probabilities, style in ((part.by_map, _MAP), (part.by_laplace, _LAPLACE)):
            _reliability_curve(axis, probabilities, part.targets, style)
        axis.set_title(_title(part.name, "ECE", measures), fontsize=11)
        axis.set(xlim=(-0.02, 1.05), ylim=(-0.05, 1.05), aspect="equal", xlabel="confidence")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("fraction predicted rightly")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2,
        fontsize=10,
        frameon=False,
        title=f"a larger mark: more points in the bin; an open mark: fewer than {_FEW}",
        title_fontsize=9,
    )


def _reliability_curve(
    axis: Any, probabilities: np.ndarray, targets: np.ndarray | None, style: Mapping[str, Any]
) -> None:
    labels = probabilities.argmax(axis=1)
    diagram = metric.reliability_diagram(labels, probabilities, targets, n_bins=N_BINS)
    confidence, right = np.asarray(diagram.confidence), np.asarray(diagram.accuracy)
    counts = np.asarray(diagram.counts)
    color, marker = style["color"], style["marker"]
    many, few = counts >= _FEW, (counts > 0) & (counts < _FEW)
    # The legend takes its mark from this line, of a size that does not depend on the data.
    axis.plot(
        confidence[many],
        right[many],
        color=color,
        marker=marker,
        markersize=5,
        label=style["label"],
    )
    sizes = 30 + 300 * counts[many] / counts.sum()
    axis.scatter(
        confidence[many], right[many], s=sizes, color=color, marker=marker, alpha=0.6, linewidths=0
    )
    axis.scatter(
        confidence[few], right[few], s=22, marker=marker, facecolors="none", edgecolors=color
    )


def _confidence_row(
    figure: Any, parts: Sequence[Predictions], measures: Mapping[str, Mapping[str, Measure]]
) -> None:
    axes = figure.subplots(1, len(parts), sharex=True, sharey=True)
    edges = np.linspace(0, 1, 21)
    for axis, part in zip(axes, parts, strict=True):
        for probabilities, style in ((part.by_map, _MAP), (part.by_laplace, _LAPLACE)):
            confidence = probabilities.max(axis=1)
            share, _ = np.histogram(confidence, edges)
            is_map = style is _MAP
            axis.stairs(
                share / len(confidence),
                edges,
                color=style["color"],
                label=style["label"],
                fill=is_map,
                alpha=0.45 if is_map else 1.0,
                linewidth=2,
            )
        axis.set_title(_title(part.name, CONFIDENCE, measures), fontsize=11)
        axis.set(xlim=(0, 1.02), ylim=(0, 1), xlabel="confidence")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("fraction of inputs")
    axes[0].legend(loc="upper left", fontsize=10)


def _title(name: str, measure: str, measures: Mapping[str, Mapping[str, Measure]]) -> str:
    shown = "mean" if measure == CONFIDENCE else measure
    found = measures[name][measure]
    return f"{name}\n{shown}: MAP {found.by_map:.3f}, Laplace {found.by_laplace:.3f}"
