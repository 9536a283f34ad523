"""The finite-sample level: which of n scores bounds the next one with a given probability."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np

from hoarfrost.checks import check_probability, shown


def rank(error: Any, n: int, everything: str) -> int:
    """``ceil((n + 1)(1 - error))``, from 1 to ``n + 1``.

    Of n + 1 exchangeable scores the last one is at most the smallest but ``k - 1`` of the others
    with probability at least ``k / (n + 1)``, which is at least ``1 - error`` (Vovk, Gammerman and
    Shafer, Algorithmic Learning in a Random World, 2005). The product is exact: `error` is the
    decimal number that is written, so that 0.7 of 9 points is the third, not the fourth.

    `n + 1` stands for no bound at all, of which a warning says that `everything` is the answer.

    Raises
    ------
    InvalidArgumentError
        If `error` is no number between 0 and 1, both excluded.
    """
    exact = Fraction(repr(check_probability("error", error)))
    k = math.ceil((n + 1) * (1 - exact))
    if k > n:
        warnings.warn(
            f"error is {shown(float(exact))}, less than {n} points can show: the answer is "
            f"{everything}. Give at least {shown(math.ceil(1 / exact) - 1)} points, or an error of "
            f"at least 1/{n + 1}",
            UserWarning,
            stacklevel=4,
        )
    return k


def score_quantile(scores: np.ndarray, error: Any, everything: str) -> float:
    """The score of that rank; infinity where no score bounds the next one."""
    k = rank(error, len(scores), everything)
    return float(np.partition(scores, k - 1)[k - 1]) if k <= len(scores) else math.inf
