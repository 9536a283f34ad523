"""Levels of quantiles and intervals: checked, and as statistics of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from hoarfrost.checks import check_probability, is_choice, real_numbers, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.predictive import numbers
from hoarfrost.predictive.weight_samples import Statistic

Levels = float | Sequence[float] | np.ndarray | jax.Array
IntervalType = Literal["two-tailed", "right-tailed", "left-tailed"]


def check_levels(q: Any) -> tuple[tuple[float, ...], bool]:
    """The levels as a tuple, and whether a single number was given.

    Raises
    ------
    InvalidArgumentError
        If they are not numbers between 0 and 1, both excluded.
    """
    levels = real_numbers(q)
    if (
        levels is None
        or levels.ndim > 1
        or not levels.size
        or not np.all((levels > 0) & (levels < 1))
    ):
        raise InvalidArgumentError(
            f"q is {shown(q)}; give a number between 0 and 1, both excluded (a Gaussian has no "
            "largest or least value), or a sequence of such numbers"
        )
    return tuple(float(level) for level in np.atleast_1d(levels)), levels.ndim == 0


def interval_levels(error: Any, interval_type: Any) -> tuple[float, ...]:
    """The levels of the ends of an interval.

    Raises
    ------
    InvalidArgumentError
        If `error` is not a number between 0 and 1, or the type is none that there is.
    """
    error = check_probability("error", error)
    ends = {
        "two-tailed": (error / 2, 1 - error / 2),
        "left-tailed": (error,),
        "right-tailed": (1 - error,),
    }
    if not is_choice(interval_type, ends):
        raise InvalidArgumentError(
            f"interval_type is {shown(interval_type)}; give one of {', '.join(map(repr, ends))}"
        )
    return ends[interval_type]


def quantile_statistic(levels: tuple[float, ...]) -> Statistic:
    """`numbers.quantiles` at these levels, which are data: one program for all of a number."""
    levels_as_data = np.asarray(levels)
    statistic: Statistic = jax.tree_util.Partial(  # type: ignore[no-untyped-call]
        numbers.quantiles, levels=levels_as_data
    )
    return statistic
