"""A picture of a reliability diagram, with the options that code written for Fortuna gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hoarfrost.errors import InvalidArgumentError

# What the picture itself takes; everything else goes to matplotlib's savefig.
_DRAWING = {
    "ax": None,
    "labels": None,
    "figsize": (6, 4),
    "legend_loc": None,
    "fontsize": 10,
    "title": None,
    "ylim": None,
    "linewidth": None,
    "linestyle": None,
    "alpha": 1.0,
    "show": False,
}


def check_plot(plot: bool, plot_options: Any, traced: bool) -> None:
    """Raise `InvalidArgumentError` unless a picture can be drawn, or none is asked for."""
    if not plot:
        if plot_options is not None:
            raise InvalidArgumentError(
                f"plot_options is {plot_options!r}, but plot is False; give plot=True, or leave "
                "the options out"
            )
        return
    if traced:
        raise InvalidArgumentError(
            "plot is True inside of a compiled program, where there are no numbers to draw; call "
            "the score outside of jax.jit"
        )
    names = plot_options if isinstance(plot_options, Mapping) else {}
    if plot_options is not None and not (
        isinstance(plot_options, Mapping) and all(isinstance(name, str) for name in names)
    ):
        raise InvalidArgumentError(
            f"plot_options is {plot_options!r}; give a dict of options, such as {{'title': 'test'}}"
        )
    saving = [name for name in names if name not in _DRAWING]
    if saving and "fname" not in saving:
        raise InvalidArgumentError(
            f"plot_options holds {saving[0]!r}; the options are {', '.join(_DRAWING)}, and beside "
            "'fname' those of matplotlib's savefig"
        )
    try:
        import matplotlib.pyplot  # noqa: F401
    except ImportError:
        raise InvalidArgumentError(
            "plot is True, but matplotlib is not there; install it, or leave plot out"
        ) from None


def plot_reliability(confidence: Any, accuracy: Any, plot_options: Any) -> None:
    """Draw confidence minus accuracy over confidence, bins without points left out."""
    from matplotlib import pyplot

    given = dict(plot_options or {})
    options = {name: given.pop(name, default) for name, default in _DRAWING.items()}
    figure = None
    if options["ax"] is None:
        figure, axis = pyplot.subplots(figsize=options["figsize"])
    else:
        axis = options["ax"]
    there = ~np.isnan(np.asarray(confidence))
    sure, right = np.asarray(confidence)[there], np.asarray(accuracy)[there]
    label = options["labels"]
    label = label[0] if isinstance(label, list | tuple) and label else label
    axis.grid(True)
    axis.plot([0, 1], [0, 0], color="grey", linestyle="--", alpha=0.3)
    style = {name: options[name] for name in ("linewidth", "linestyle", "alpha")}
    axis.plot(sure, sure - right, marker=".", label=label, **style)
    axis.set_xlabel("confidence", fontsize=options["fontsize"])
    axis.set_ylabel("confidence - accuracy", fontsize=options["fontsize"])
    if label:
        axis.legend(fontsize=options["fontsize"], loc=options["legend_loc"])
    if options["title"]:
        axis.set_title(options["title"], fontsize=options["fontsize"] + 2)
    if options["ylim"] is not None:
        axis.set_ylim(options["ylim"])
    if given:
        axis.figure.savefig(**given)
        if figure is not None and not options["show"]:
            # Saved and wanted nowhere else: figures that stay open add up.
            pyplot.close(figure)
    if options["show"]:
        pyplot.show()
