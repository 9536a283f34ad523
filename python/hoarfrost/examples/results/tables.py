"""Markdown tables of means and standard errors, with the scores or the methods down the side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hoarfrost.examples.results.scores import Row, summarise

# Of every method one number a seed.
Collected = Mapping[Row, Mapping[str, Sequence[float]]]

# More columns of numbers than this do not fit a line.
_MOST_COLUMNS = 6


def by_score(collected: Collected, printed: Callable[[Row], bool]) -> str:
    """A row for each score, a column for each method."""
    chosen = shown(collected, printed)
    methods = list(collected[chosen[0]])
    rows = [["score", "on", *methods]]
    for row in chosen:
        rows.append([*row, *(str(summarise(collected[row][method])) for method in methods)])
    return markdown(rows, words=2)


def by_method(collected: Collected, printed: Callable[[Row], bool]) -> str:
    """A row for each method, a column for each score; a table for each score if they are many."""
    chosen = shown(collected, printed)
    if len(chosen) <= _MOST_COLUMNS:
        return _of_methods(collected, chosen)
    metrics = dict.fromkeys(row.metric for row in chosen)
    parts = ([row for row in chosen if row.metric == metric] for metric in metrics)
    return "\n\n".join(_of_methods(collected, part) for part in parts)


def shown(collected: Collected, printed: Callable[[Row], bool]) -> list[Row]:
    """The rows that are printed, in their order, but those of a score together."""
    metrics = list(dict.fromkeys(row.metric for row in collected))
    return sorted(filter(printed, collected), key=lambda row: metrics.index(row.metric))


def markdown(rows: Sequence[Sequence[str]], words: int) -> str:
    """An aligned table of its heading and rows, of which so many columns are words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [
        "-" * width if index < words else "-" * (width - 1) + ":"
        for index, width in enumerate(widths)
    ]
    lines = []
    for cells in (rows[0], rule, *rows[1:]):
        padded = [
            cell.ljust(width) if index < words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)


def _of_methods(collected: Collected, chosen: Sequence[Row]) -> str:
    rows = [["method", *(f"{row.metric}, {row.where}" for row in chosen)]]
    for method in collected[chosen[0]]:
        rows.append([method, *(str(summarise(collected[row][method])) for row in chosen)])
    return markdown(rows, words=1)
