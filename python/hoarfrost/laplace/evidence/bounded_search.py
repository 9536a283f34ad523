"""The maximum of a function of one number within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BoundedMaximum:
    """Where a function was largest.

    Attributes
    ----------
    argument, value : float
        The place and the value there.
    at_edge : bool
        Whether the place is within the tolerance of a bound, so that the bound decided it.
    evaluations : int
        How often the function was called.
    """

    argument: float
    value: float
    at_edge: bool
    evaluations: int


def bounded_maximum(
    function: Callable[[float], float],
    low: float,
    high: float,
    *,
    grid_size: int = 9,
    tolerance: float = 0.1,
) -> BoundedMaximum:
    """The maximum over an interval: a coarse grid, then a golden section about its best point.

    The grid finds the right hill where there are several; the golden section assumes one hill
    between the two neighbours of the best grid point. A value that is not a number counts as the
    smallest.

    Parameters
    ----------
    function : callable (float) -> float
        What is maximised.
    low, high : float
        Bounds.
    grid_size : int
        Points of the grid, bounds included.
    tolerance : float
        Width of the last interval.
    """
    values: dict[float, float] = {}

    def evaluate(x: float) -> float:
        if x not in values:
            value = float(function(x))
            values[x] = -math.inf if math.isnan(value) else value
        return values[x]

    step = (high - low) / (grid_size - 1)
    grid = [low + i * step for i in range(grid_size - 1)] + [high]
    best = max(grid, key=evaluate)
    left, right = max(low, best - step), min(high, best + step)
    ratio = (math.sqrt(5) - 1) / 2
    inner, outer = right - ratio * (right - left), left + ratio * (right - left)
    while right - left > tolerance:
        # Either inner point serves again in the smaller interval: one call a round.
        if evaluate(inner) >= evaluate(outer):
            right, outer = outer, inner
            inner = right - ratio * (right - left)
        else:
            left, inner = inner, outer
            outer = left + ratio * (right - left)
    best = max(values, key=lambda x: values[x])
    at_edge = best - low <= tolerance or high - best <= tolerance
    return BoundedMaximum(best, values[best], at_edge, len(values))
