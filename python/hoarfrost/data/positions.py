"""Outputs with positions, tokens ``(B, T, C)`` or pixels ``(B, H, W, C)``: each is a data point.

A network takes whole examples; what follows it takes rows, one a position. Positions become rows
here, where targets come in, and in the passes (`hoarfrost.curvature`), and are shaped again where
predictions go out. Without positions, shape ``()``, an example is one row.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.types import Array


def examples_at_once(points: int, positions: tuple[int, ...]) -> int:
    """How many examples hold at most so many positions; one, where it alone holds more."""
    return max(1, points // max(1, math.prod(positions)))


def in_rows(
    batch: CheckedBatch, positions: tuple[int, ...], ignored_label: int | None = None
) -> CheckedBatch:
    """The batch with one row of targets a position, and a mask where some do not count.

    Parameters
    ----------
    batch : CheckedBatch
        Targets of shape ``(B, *positions)`` or ``(B, *positions, D)``, and a mask
        ``(B, *positions)`` or None.
    positions : tuple of int
        Of one example.
    ignored_label : int, optional
        Positions with this target do not count.

    Returns
    -------
    CheckedBatch
        Targets ``(R,)`` or ``(R, D)`` and mask ``(R,)`` or None, R the number of positions. A
        target that does not count is 0, which a program can take like any other.

    Raises
    ------
    ShapeError
        If targets or mask are of another shape.
    InvalidArgumentError
        If only some targets of a position are the ignored label.
    """
    targets, mask = batch.targets, batch.mask
    if not positions and mask is None and ignored_label is None:
        return batch
    lead = (batch.size, *positions)
    if targets.shape[: len(lead)] != lead:
        raise ShapeError(
            f"targets of batch {batch.index} have shape {targets.shape}, and the network's outputs "
            f"have positions {positions}; give one target a position, shape {lead} or {lead} and "
            "an axis of numbers"
        )
    if mask is not None and mask.shape != lead:
        raise ShapeError(
            f"the mask of batch {batch.index} has shape {mask.shape}; give one entry a data point, "
            f"shape {lead}"
        )
    rows = np.asarray(targets).reshape(math.prod(lead), *targets.shape[len(lead) :])
    counted = None if mask is None else mask.reshape(len(rows))
    if ignored_label is not None:
        found = _labelled(rows, ignored_label, batch.index)
        counted = ~found if counted is None else counted & ~found
    if counted is not None and not counted.all():
        rows = rows.copy()
        rows[~counted] = 0
    return dataclasses.replace(batch, targets=rows, mask=counted)


def in_positions(rows: Array, positions: tuple[int, ...], axis: int = 0) -> Array:
    """An array whose `axis` runs over rows with axes of examples and positions in its place."""
    if not positions:
        return rows
    return rows.reshape(*rows.shape[:axis], -1, *positions, *rows.shape[axis + 1 :])


def _labelled(rows: Array, label: int, index: int) -> Array:
    """Which rows hold this label, shape ``(R,)``."""
    found = (rows == label).reshape(len(rows), -1)
    if (found.any(axis=1) & ~found.all(axis=1)).any():
        raise InvalidArgumentError(
            f"targets of batch {index} hold the ignored label {label} beside others at the same "
            "data point; give it to all targets of a point or to none"
        )
    result: Array = found.all(axis=1)
    return result
