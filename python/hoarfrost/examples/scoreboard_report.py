"""A scoreboard as it is shown: the table, what was won and lost, and a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hoarfrost.examples.command import Settings
from hoarfrost.examples.comparison import CONFIDENCE, Measure
from hoarfrost.examples.figures import (
    LAPLACE_STYLE,
    MAP_STYLE,
    OTHER_STYLE,
    Panel,
    draw_panels,
    headline,
)
from hoarfrost.examples.output import write_whole
from hoarfrost.examples.scoreboard import (
    HEAD,
    MAP,
    NOTES,
    TEMPERATURE,
    Answers,
    measured,
    scored,
    table,
    words,
)

# Characters of the picture's title in a line.
_TITLE_WIDTH = 84
_SHORT = {TEMPERATURE: "temp.", HEAD: "head"}
_STYLES: dict[str, Any] = {
    MAP: MAP_STYLE,
    TEMPERATURE: {**OTHER_STYLE, "label": TEMPERATURE},
    HEAD: {**LAPLACE_STYLE, "label": HEAD},
}


def report(
    test: Answers,
    shifted: Sequence[Answers],
    unknown: Sequence[Answers],
    thing: str,
    about: str,
    settings: Settings,
) -> None:
    """Print the table and what follows from it, and write the picture.

    Parameters
    ----------
    test, shifted, unknown
        As for `hoarfrost.examples.scoreboard.scored`.
    thing : str
        What every unknown input is not.
    about : str
        What the inputs are, below it all.
    settings : Settings
        Where the picture goes, and the seed of the resampling.
    """
    lines = scored(test, shifted, unknown, settings.seed)
    print("\n" + table(lines) + "\n")
    for sentence in words(lines):
        indent = "    " if sentence.startswith(" ") else "  "
        print(textwrap.fill(sentence, 92, subsequent_indent=indent))
    print()
    for note in (*NOTES, about):
        print(textwrap.fill(note, 92, subsequent_indent="  "))
    together = Answers(
        f"no {thing} ({len(unknown)} kinds)",
        {m: np.concatenate([part.by_method[m] for part in unknown]) for m in test.by_method},
    )
    shown = [test, *shifted, together]
    measures = {part.name: measured(part, settings.seed) for part in shown}
    finding = headline(
        [part.name for part in shown[:-1]],
        together.name,
        {name: found[HEAD] for name, found in measures.items()},
        method=f"The {HEAD}",
        nowhere=f"where there is no {thing}",
    )
    upper = [_panel(part, "ECE", measures[part.name]) for part in shown[:-1]]
    lower = [_panel(part, CONFIDENCE, measures[part.name]) for part in shown]
    finding = textwrap.fill(finding, _TITLE_WIDTH)
    write_whole(settings.picture, lambda path: draw_panels(finding, upper, lower, path))
    print(f"\nPicture: {settings.picture}")


def _panel(part: Answers, score: str, measures: Mapping[str, Mapping[str, Measure]]) -> Panel:
    numbers = {_SHORT[m]: found[score].by_laplace for m, found in measures.items()}
    first = next(iter(measures.values()))[score].by_map
    shown = "mean" if score == CONFIDENCE else score
    named = ", ".join(f"{name} {number:.3f}" for name, number in {MAP: first, **numbers}.items())
    curves = [(part.by_method[m], _STYLES[m]) for m in part.by_method]
    return Panel(f"{part.name}\n{shown}: {named}", curves, part.targets)
