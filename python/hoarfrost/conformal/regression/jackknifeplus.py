"""Jackknife+: intervals from leave-one-out models."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.conformal.regression.base import ConformalRegressor
from hoarfrost.conformal.regression.plus import leave_one_out, plus_intervals


class JackknifePlusConformalRegressor(ConformalRegressor):
    """Jackknife+ intervals: CV+ with as many folds as points.

    From the ``floor(error (n + 1))``-th smallest of ``f_i(x) - r_i`` to the
    ``ceil((1 - error)(n + 1))``-th smallest of ``f_i(x) + r_i``, with ``f_i`` the model without
    point i and ``r_i`` its absolute residual there (Barber, Candes, Ramdas and Tibshirani,
    Predictive Inference with the Jackknife+, 2021). The target is in it with probability at least
    ``1 - 2 error``, and in practice about ``1 - error``.
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
            Lower and upper ends, float64, shape ``(N, 2)``. With an error above 1/2 the lower end
            may be above the upper one: the set is empty.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, a number is not finite, or `error` is none.
        """
        residuals, outputs = leave_one_out(loo_val_outputs, loo_val_targets, loo_test_outputs)
        return plus_intervals(residuals, np.arange(len(residuals)), outputs, error)
