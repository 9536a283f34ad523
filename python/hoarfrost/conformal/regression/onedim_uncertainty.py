"""Conformal intervals from a prediction and one number for its uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.checks import check_probability
from hoarfrost.conformal.checked import (
    check_not_negative,
    column,
    finite_scores,
    given_quantile,
    positive_column,
)
from hoarfrost.conformal.level import score_quantile
from hoarfrost.conformal.regression.base import WHOLE_LINE, ConformalRegressor, as_intervals


class OneDimensionalUncertaintyConformalRegressor(ConformalRegressor):
    """Split conformal intervals as wide as each point's uncertainty, such as a standard deviation.

    The score of a point is ``|y - prediction| / uncertainty``; every interval is the prediction
    plus and minus the uncertainty times the ``ceil((n + 1)(1 - error))``-th smallest score (Lei,
    G'Sell, Rinaldo, Tibshirani and Wasserman, Distribution-Free Predictive Inference for
    Regression, 2018; Angelopoulos and Bates 2021). The target is in it with probability at least
    ``1 - error``.
    """

    def score(self, val_preds: Any, val_uncertainties: Any, val_targets: Any) -> np.ndarray:
        """Distance of each validation target from its prediction, in uncertainties.

        Parameters
        ----------
        val_preds : array
            Predictions at the validation points, shape ``(n,)`` or ``(n, 1)``.
        val_uncertainties : array
            Their uncertainties, above 0, shape ``(n,)`` or ``(n, 1)``, in the unit of the targets.
        val_targets : array
            Targets, shape ``(n,)`` or ``(n, 1)``.

        Returns
        -------
        numpy.ndarray
            Float64, shape ``(n,)``.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, a number is not finite, or an uncertainty is not above 0.
        """
        preds = column("val_preds", val_preds)
        widths = positive_column("val_uncertainties", val_uncertainties, preds, "val_preds")
        targets = column("val_targets", val_targets, preds, "val_preds")
        with np.errstate(over="ignore"):
            return finite_scores(np.abs(targets - preds) / widths)

    def quantile(
        self,
        val_preds: Any,
        val_uncertainties: Any,
        val_targets: Any,
        error: float,
        scores: Any = None,
    ) -> float:
        """The ``ceil((n + 1)(1 - error))``-th smallest score; infinity where there is none.

        Parameters
        ----------
        val_preds, val_uncertainties, val_targets : array
            As for `score`.
        error : float
            Between 0 and 1, both excluded.
        scores : array, optional
            What `score` gave for other validation points of that number, shape ``(n,)``: used in
            place of the scores of these.

        Returns
        -------
        float
            How many uncertainties an interval goes to either side.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            As for `score`, for `error`, and if a score is below 0.
        """
        found = self.score(val_preds, val_uncertainties, val_targets)
        if scores is not None:
            found = column("scores", scores, found, "val_targets")
            check_not_negative("scores", found)
        return score_quantile(found, error, WHOLE_LINE)

    def conformal_interval(
        self,
        val_preds: Any,
        val_uncertainties: Any,
        test_preds: Any,
        test_uncertainties: Any,
        val_targets: Any,
        error: float,
        quantile: float | None = None,
    ) -> np.ndarray:
        """An interval for each test point.

        Parameters
        ----------
        val_preds, val_uncertainties : array
            Predictions and uncertainties at the validation points, shape ``(n,)`` or ``(n, 1)``.
        test_preds, test_uncertainties : array
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
            Lower and upper ends, float64, shape ``(N, 2)``.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, a number is not finite, an uncertainty is not above 0, or `error`
            or `quantile` is none.
        """
        preds = column("test_preds", test_preds)
        widths = positive_column("test_uncertainties", test_uncertainties, preds, "test_preds")
        if quantile is None:
            factor = self.quantile(val_preds, val_uncertainties, val_targets, error)
        else:
            self.score(val_preds, val_uncertainties, val_targets)
            check_probability("error", error)
            factor = given_quantile(quantile, negative=False)
        with np.errstate(over="ignore"):
            return as_intervals(preds - widths * factor, preds + widths * factor)
