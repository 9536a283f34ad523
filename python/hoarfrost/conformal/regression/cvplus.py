"""CV+: intervals from the models of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hoarfrost.conformal.checked import check_same_length, column, folds
from hoarfrost.conformal.regression.base import ConformalRegressor
from hoarfrost.conformal.regression.plus import plus_intervals, residuals_of


class CVPlusConformalRegressor(ConformalRegressor):
    """CV+ intervals: every point validates the model that was trained without its fold.

    From the ``floor(error (n + 1))``-th smallest of ``f_i(x) - r_i`` to the
    ``ceil((1 - error)(n + 1))``-th smallest of ``f_i(x) + r_i``, with ``f_i`` the model without i's
    fold and ``r_i`` its absolute residual at i (Barber, Candes, Ramdas and Tibshirani, Predictive
    Inference with the Jackknife+, 2021). The target is in it with probability at least
    ``1 - 2 error`` (less about ``sqrt(2 / n)`` or ``2 / (K + 1)`` for K folds), and in practice
    about ``1 - error``.
    """

    def conformal_interval(
        self,
        cross_val_outputs: Sequence[Any],
        cross_val_targets: Sequence[Any],
        cross_test_outputs: Sequence[Any],
        error: float,
    ) -> np.ndarray:
        """An interval for each test point.

        Parameters
        ----------
        cross_val_outputs : sequence of array
            For each of K folds the predictions at its points, of the model trained without it.
        cross_val_targets : sequence of array
            For each fold the targets of its points.
        cross_test_outputs : sequence of array
            For each fold the predictions of the same model at the test points, ``(N,)`` or
            ``(N, 1)``.
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
            If shapes or numbers of folds do not fit, there is one fold alone, a number is not
            finite, or `error` is none.
        """
        given = folds(
            cross_val_outputs=cross_val_outputs,
            cross_val_targets=cross_val_targets,
            cross_test_outputs=cross_test_outputs,
        )
        residuals: list[np.ndarray] = []
        tests: list[np.ndarray] = []
        for i, (outputs, targets, test) in enumerate(zip(*given, strict=True)):
            name = f"cross_val_outputs[{i}]"
            outputs = column(name, outputs)
            residuals.append(
                residuals_of(outputs, column(f"cross_val_targets[{i}]", targets, outputs, name))
            )
            name = f"cross_test_outputs[{i}]"
            tests.append(column(name, test))
            check_same_length(name, len(tests[-1]), "cross_test_outputs[0]", len(tests[0]))
        model = np.repeat(np.arange(len(tests)), list(map(len, residuals)))
        return plus_intervals(np.concatenate(residuals), model, np.stack(tests), error)
