"""Jackknife-minmax: wider intervals from leave-one-out models, with the whole guarantee."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.conformal.level import score_quantile
from hoarfrost.conformal.regression.base import WHOLE_LINE, ConformalRegressor, as_intervals
from hoarfrost.conformal.regression.plus import leave_one_out


class JackknifeMinmaxConformalRegressor(ConformalRegressor):
    """Jackknife-minmax intervals: the span of all leave-one-out predictions, and a residual more.

    From ``min_i f_i(x) - q`` to ``max_i f_i(x) + q``, with q the ``ceil((n + 1)(1 - error))``-th
    smallest absolute leave-one-out residual (Barber, Candes, Ramdas and Tibshirani, Predictive
    Inference with the Jackknife+, 2021). The target is in it with probability at least
    ``1 - error``.
    """

    def conformal_interval(
        self, loo_val_outputs: Any, loo_val_targets: Any, loo_test_outputs: Any, error: float
    ) -> np.ndarray:
        """An interval for each test point.

        Parameters
        ----------
        loo_val_outputs : array
            For each of n points the prediction there of the model trained without it, ``(n,)`` or
            ``(n, 1)``.
        loo_val_targets : array
            Targets of the points, ``(n,)`` or ``(n, 1)``.
        loo_test_outputs : array
            Predictions of each of the n models at the test points, ``(n, N)`` or ``(n, N, 1)``.
        error : float
            Between 0 and 1, both excluded.

        Returns
        -------
        numpy.ndarray
            Lower and upper ends, float64, shape ``(N, 2)``.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, a number is not finite, or `error` is none.
        """
        residuals, outputs = leave_one_out(loo_val_outputs, loo_val_targets, loo_test_outputs)
        widened = score_quantile(residuals, error, WHOLE_LINE)
        with np.errstate(over="ignore"):
            return as_intervals(outputs.min(axis=0) - widened, outputs.max(axis=0) + widened)
