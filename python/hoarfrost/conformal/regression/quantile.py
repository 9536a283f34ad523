"""Conformalised quantile regression: intervals widened, or narrowed, by one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.checks import check_probability
from hoarfrost.conformal.checked import column, finite_scores, given_quantile
from hoarfrost.conformal.level import score_quantile
from hoarfrost.conformal.regression.base import WHOLE_LINE, ConformalRegressor, as_intervals


class QuantileConformalRegressor(ConformalRegressor):
    """Split conformal intervals from any intervals, such as those between two quantiles.

    The score of a point is ``max(lower - y, y - upper)``, below 0 inside of its interval; every
    interval is moved outwards by the ``ceil((n + 1)(1 - error))``-th smallest score (Romano,
    Patterson and Candes, Conformalized Quantile Regression, 2019). The target is in it with
    probability at least ``1 - error``.
    """

    def score(self, val_lower_bounds: Any, val_upper_bounds: Any, val_targets: Any) -> np.ndarray:
        """How far each validation target lies outside of its interval.

        Parameters
        ----------
        val_lower_bounds, val_upper_bounds : array
            Ends of the intervals at the validation points, shape ``(n,)`` or ``(n, 1)``.
        val_targets : array
            Their targets, shape ``(n,)`` or ``(n, 1)``.

        Returns
        -------
        numpy.ndarray
            Float64, shape ``(n,)``; negative inside.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, or a number is not finite.
        """
        lower = column("val_lower_bounds", val_lower_bounds)
        upper = column("val_upper_bounds", val_upper_bounds, lower, "val_lower_bounds")
        targets = column("val_targets", val_targets, lower, "val_lower_bounds")
        with np.errstate(over="ignore"):
            return finite_scores(np.maximum(lower - targets, targets - upper))

    def quantile(
        self,
        val_lower_bounds: Any,
        val_upper_bounds: Any,
        val_targets: Any,
        error: float,
        scores: Any = None,
    ) -> float:
        """The ``ceil((n + 1)(1 - error))``-th smallest score; infinity where there is none.

        Parameters
        ----------
        val_lower_bounds, val_upper_bounds, val_targets : array
            As for `score`.
        error : float
            Between 0 and 1, both excluded.
        scores : array, optional
            What `score` gave for other validation points of that number, shape ``(n,)``: used in
            place of the scores of these.

        Returns
        -------
        float
            What every interval is moved outwards by.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            As for `score`, and for `error`.
        """
        found = self.score(val_lower_bounds, val_upper_bounds, val_targets)
        if scores is not None:
            found = column("scores", scores, found, "val_targets")
        return score_quantile(found, error, WHOLE_LINE)

    def conformal_interval(
        self,
        val_lower_bounds: Any,
        val_upper_bounds: Any,
        test_lower_bounds: Any,
        test_upper_bounds: Any,
        val_targets: Any,
        error: float,
        quantile: float | None = None,
    ) -> np.ndarray:
        """An interval for each test point.

        Parameters
        ----------
        val_lower_bounds, val_upper_bounds : array
            Ends of the intervals at the validation points, shape ``(n,)`` or ``(n, 1)``.
        test_lower_bounds, test_upper_bounds : array
            Those at the test points, shape ``(N,)`` or ``(N, 1)``.
        val_targets : array
            Targets of the validation points, shape ``(n,)`` or ``(n, 1)``.
        error : float
            The probability that a target is left out, between 0 and 1, both excluded.
        quantile : float, optional
            What `quantile` gave: used in place of the quantile of these validation points.

        Returns
        -------
        numpy.ndarray
            Lower and upper ends, float64, shape ``(N, 2)``. Where the lower end is above the upper
            one the set is empty: the given interval is narrower than what all are narrowed by.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, a number is not finite, or `error` or `quantile` is none.
        """
        lower = column("test_lower_bounds", test_lower_bounds)
        upper = column("test_upper_bounds", test_upper_bounds, lower, "test_lower_bounds")
        if quantile is None:
            moved = self.quantile(val_lower_bounds, val_upper_bounds, val_targets, error)
        else:
            self.score(val_lower_bounds, val_upper_bounds, val_targets)
            check_probability("error", error)
            moved = given_quantile(quantile, negative=True)
        with np.errstate(over="ignore"):
            return as_intervals(lower - moved, upper + moved)
