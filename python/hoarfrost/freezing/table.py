"""A selection as people read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hoarfrost.freezing.partition import Partition
from hoarfrost.types import Path, Tree, join


def selection_table(params: Tree, partition: Partition) -> str:
    """A printable table: path, shape, trainable or frozen, and how many numbers, leaf by leaf."""
    leaves = partition.treedef.flatten_up_to(params)
    rows = [("parameter", "shape", "selection", "numbers")]
    totals = {True: 0, False: 0}
    for path, leaf, chosen in zip(partition.paths, leaves, partition.mask, strict=True):
        size = math.prod(leaf.shape)
        totals[chosen] += size
        part = "trainable" if chosen else "frozen"
        rows.append((join(path), str(tuple(leaf.shape)), part, f"{size:,}"))
    for chosen, part in ((True, "trainable"), (False, "frozen")):
        rows.append(("total", "", part, f"{totals[chosen]:,}"))
    return columns(rows)


def listing(paths: Sequence[Path], leaves: Sequence[Any]) -> str:
    """The paths of all leaves with their shapes, one a line."""
    return columns([(join(p), str(tuple(x.shape))) for p, x in zip(paths, leaves, strict=True)])


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows under each other, their entries aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join("  " + line.rstrip() for line in lines)
