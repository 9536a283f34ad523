"""The bands of every method about a line with gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoarfrost.examples.figures import LAPLACE_STYLE, MAP_STYLE, OTHER_STYLE, new_figure
from hoarfrost.examples.methods.fits import MAP, Predict
from hoarfrost.examples.results.gap_task import (
    LAPLACES,
    MEASURED,
    NOISE_STD,
    fit_line,
    line,
    train_points,
)

_REACH = 6.0
_LIMITS = (-3.5, 3.5)
_SEED = 0


def draw_bands(quick: bool, path: Path) -> None:
    """Draw what every method predicts of the first seed, a panel for each, without a display.

    Parameters
    ----------
    quick : bool
        As for `hoarfrost.examples.results.gap_task.gaps`.
    path : Path
        Where to, in the format of its ending.
    """
    found = fit_line(_SEED, quick)
    columns = -(-len(found) // 2)
    figure = new_figure((4.2 * columns, 7.4))
    figure.suptitle(
        "A line with gaps: means, two standard deviations of the line (dark) and of a measurement "
        "(light)",
        weight="bold",
    )
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    for axis, (method, (predict, _)) in zip(axes.ravel(), found.items(), strict=False):
        _panel(axis, method, predict)
    for axis in axes.ravel()[len(found) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=120)


def _panel(axis: Any, method: str, predict: Predict) -> None:
    inputs = np.linspace(-_REACH, _REACH, 241, dtype=np.float32)[:, None]
    x = inputs[:, 0]
    mean, variance = predict(inputs)[..., 0]
    color = _style(method)["color"]
    of_line = np.sqrt(np.maximum(variance - NOISE_STD**2, 0.0))
    for spread, alpha in ((np.sqrt(variance), 0.2), (of_line, 0.35)):
        axis.fill_between(
            x, mean - 2 * spread, mean + 2 * spread, color=color, alpha=alpha, linewidth=0
        )
    axis.plot(x, mean, color=color, label="mean" if method == MAP else None)
    axis.plot(x, line(x), color="black", linestyle="--", linewidth=1, label="the line")
    axis.plot(*train_points(_SEED), linestyle="", marker=".", color="black", label="data")
    for low, high in MEASURED:
        axis.axvspan(low, high, color="#666666", alpha=0.08, linewidth=0)
    axis.set(title=method, xlabel="x", xlim=(-_REACH, _REACH), ylim=_LIMITS)
    axis.grid(alpha=0.25)


def _style(method: str) -> Any:
    if method == MAP:
        return MAP_STYLE
    return LAPLACE_STYLE if method in LAPLACES else OTHER_STYLE
