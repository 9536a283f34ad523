"""The comparison as it is shown: tables, sentences that follow from them, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hoarfrost.examples.figures import LAPLACE_STYLE, MAP_STYLE, OTHER_STYLE, new_figure
from hoarfrost.examples.methods.fits import EVIDENCE, HEAD, LAPLACE, MAP, METHODS
from hoarfrost.examples.methods.scored import HELD, SECONDS
from hoarfrost.examples.results.scores import Row, summarise, verdict
from hoarfrost.examples.results.tables import markdown

# By score and method one number a seed.
Scores = Mapping[str, Mapping[str, Sequence[float]]]

_COSTS = (SECONDS, HELD)
LAPLACES = (LAPLACE, EVIDENCE)
ABOUT = (
    "Every method but SNGP and the ensemble starts from the same trained network (MAP, one a "
    "seed), under the same prior, a standard normal, which Laplace by evidence chooses anew. Head: "
    "the last layer is uncertain, the rest of the network runs once. Network: all parameters are. "
    "Numbers are means over the seeds ± their standard errors. Seconds: the fit, the median over "
    "the seeds, so that compilation is left out; of MAP the training. MB held: what stands for the "
    "posterior, beside the network."
)


def table(scores: Scores) -> str:
    """A markdown table: a row for each method, a column for each score."""
    names = list(scores)
    rows = [["method", *names]]
    for method in METHODS:
        cells = []
        for name in names:
            values = scores[name][method]
            if name in _COSTS:
                cells.append(_cost(sorted(values)[len(values) // 2]))
            else:
                cells.append(str(summarise(values)))
        rows.append([method, *cells])
    return markdown(rows, words=1)


def sentences(scores: Scores) -> list[str]:
    """Where each Laplace loses to another method and where it wins, beyond chance."""
    if any(len(values) < 2 for by_method in scores.values() for values in by_method.values()):
        return ["One seed has no standard error: nothing can be said of differences."]
    said = []
    for ours in LAPLACES:
        found: dict[str, dict[str, list[str]]] = {"loses": {}, "wins": {}}
        for name, by_method in scores.items():
            if name in _COSTS:
                continue
            for theirs, values in by_method.items():
                kind = verdict(Row(name, "test"), by_method[ours], values)
                if theirs != ours and kind in found:
                    found[kind].setdefault(name, []).append(theirs)
        for kind, word in (("loses", "to"), ("wins", "against")):
            parts = [f"{name} {word} {', '.join(who)}" for name, who in found[kind].items()]
            said += [f"- {ours} **{kind}** in {'; in '.join(parts)}."] if parts else []
    return said or ["- No difference is beyond chance."]


def draw(found: Mapping[tuple[str, str], Scores], path: Path) -> None:
    """NLL against seconds for every method, a panel for each task and subset."""
    figure = new_figure((11, 8.5))
    panels = figure.subplots(2, 2).ravel()
    for axes, ((task, subset), scores) in zip(panels, found.items(), strict=False):
        for method in METHODS:
            x = sorted(scores[SECONDS][method])[len(scores[SECONDS][method]) // 2]
            summary = summarise(scores["NLL"][method])
            style = _style(method)
            axes.errorbar(x, summary.mean, summary.standard_error, linestyle="", **style)
            axes.annotate(
                method, (x, summary.mean), xytext=(6, 3), textcoords="offset points", fontsize=8
            )
        part = "last layer" if subset == HEAD else "whole network"
        axes.set(title=f"{task}, {part}", xlabel="seconds", ylabel="NLL of test points")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.25)
        axes.grid(visible=True, alpha=0.3)
    figure.suptitle("The lower and the further left the better", fontsize=13, weight="bold")
    figure.savefig(path, dpi=130)


def _style(method: str) -> dict[str, Any]:
    known = {MAP: MAP_STYLE, LAPLACE: LAPLACE_STYLE, EVIDENCE: LAPLACE_STYLE}
    style = known.get(method, OTHER_STYLE)
    return {"color": style["color"], "marker": style["marker"]}


def _cost(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.4f}"
