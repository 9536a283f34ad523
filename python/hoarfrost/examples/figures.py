"""Reliability diagrams and histograms of confidence, and a picture of a row of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hoarfrost import metric
from hoarfrost.examples.comparison import CONFIDENCE, N_BINS, Measure

# Colours that people with any colour vision tell apart (Okabe and Ito), and a shape for each.
MAP_STYLE: Mapping[str, Any] = {"color": "#0072B2", "marker": "o", "label": "MAP", "filled": True}
LAPLACE_STYLE: Mapping[str, Any] = {"color": "#D55E00", "marker": "s", "label": "Laplace"}
OTHER_STYLE: Mapping[str, Any] = {"color": "#009E73", "marker": "^"}
_GREY = "#666666"
# A bin with fewer points than this says little.
_FEW = 10


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes
    ----------
    title : str
        Above it.
    curves : sequence of (ndarray, mapping)
        Probabilities of the classes, shape ``(N, C)``, of each method and how it is drawn.
    targets : ndarray or None
        Classes, shape ``(N,)``, for a reliability diagram.
    """

    title: str
    curves: Sequence[tuple[np.ndarray, Mapping[str, Any]]]
    targets: np.ndarray | None = None


def draw_panels(
    finding: str, reliability: Sequence[Panel], confidence: Sequence[Panel], path: Path
) -> None:
    """Draw reliability diagrams above histograms of confidence into a file, without a display.

    Parameters
    ----------
    finding : str
        Above them all.
    reliability, confidence : sequence of Panel
        What each row shows.
    path : Path
        Where to, in the format of its ending.
    """
    figure = new_figure((11, 10))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.65, 1))
    figure.suptitle(finding, fontsize=14, weight="bold")
    _reliability_row(upper, reliability)
    _confidence_row(lower, confidence)
    figure.savefig(path, dpi=130)


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure of so many inches, for which no display is looked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # draws in memory
    return figure


def headline(
    labelled: Sequence[str],
    not_digits: str,
    measures: Mapping[str, Mapping[str, Measure]],
    *,
    method: str = "Laplace",
    nowhere: str = "where there is no digit",
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
    method : str
        What is held against MAP.
    nowhere : str
        Where the last inputs are.
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
    parts.append(f"{sure[measures[not_digits][CONFIDENCE].verdict]} {nowhere}")
    return f"{method} is " + ", ".join(parts[:-1]) + ",\nand " + parts[-1]


def reliability_axis(axis: Any, panel: Panel) -> None:
    """Draw a reliability diagram: the fraction predicted rightly against the confidence."""
    axis.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
    # No confidence is below 1 / C, so that this corner is always free.
    axis.text(0.0, 0.045, "as right as sure", color=_GREY, rotation=45, fontsize=8)
    for probabilities, style in panel.curves:
        _reliability_curve(axis, probabilities, panel.targets, style)
    axis.set_title(panel.title, fontsize=11)
    axis.set(xlim=(-0.02, 1.05), ylim=(-0.05, 1.05), aspect="equal", xlabel="confidence")
    axis.grid(alpha=0.25)


def reliability_note(figure: Any, axis: Any) -> None:
    """The legend of a reliability diagram, below the figure, with what its marks mean."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=10,
        frameon=False,
        title=f"a larger mark: more points in the bin; an open mark: fewer than {_FEW}",
        title_fontsize=9,
    )


def confidence_axis(axis: Any, panel: Panel) -> None:
    """Draw a histogram of the confidence."""
    edges = np.linspace(0, 1, 21)
    for probabilities, style in panel.curves:
        confidence = probabilities.max(axis=1)
        share, _ = np.histogram(confidence, edges)
        filled = style.get("filled", False)
        axis.stairs(
            share / len(confidence),
            edges,
            color=style["color"],
            label=style["label"],
            fill=filled,
            alpha=0.45 if filled else 1.0,
            linewidth=2,
        )
    axis.set_title(panel.title, fontsize=11)
    axis.set(xlim=(0, 1.02), ylim=(0, 1), xlabel="confidence")
    axis.grid(alpha=0.25)
    axis.legend(loc="upper left", fontsize=10)


def _reliability_row(figure: Any, panels: Sequence[Panel]) -> None:
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axis, panel in zip(axes, panels, strict=True):
        reliability_axis(axis, panel)
    axes[0].set_ylabel("fraction predicted rightly")
    reliability_note(figure, axes[0])


def _confidence_row(figure: Any, panels: Sequence[Panel]) -> None:
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axis, panel in zip(axes, panels, strict=True):
        confidence_axis(axis, panel)
    axes[0].set_ylabel("fraction of inputs")
    for axis in axes[1:]:
        axis.get_legend().remove()


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
