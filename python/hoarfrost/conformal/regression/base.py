"""What conformal regressors have in common: intervals, and whether they hold a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from hoarfrost.conformal.checked import check_same_length, column, on_host
from hoarfrost.errors import ShapeError
from hoarfrost.metric.arrays import as_numbers

WHOLE_LINE = "the whole line for every point"


class ConformalRegressor:
    """Predictions of one number a point made into intervals that hold it often enough.

    In every method N is the number of test points and n that of points that were not trained on.
    Arrays of one number a point have shape ``(N,)`` or ``(N, 1)``, of any real dtype, of NumPy, JAX
    or lists; everything is computed in float64 on the host. An error below ``1/(n + 1)`` gives
    ``(-inf, inf)`` for every point, and a warning says so.
    """

    def is_in(self, values: Any, conformal_intervals: Any) -> np.ndarray:
        """Whether each value lies in the interval of its point, ends included.

        Parameters
        ----------
        values : array
            Shape ``(N,)`` or ``(N, 1)``.
        conformal_intervals : array
            Lower and upper ends, shape ``(N, 2)``; infinite ones, too.

        Returns
        -------
        numpy.ndarray
            Bool, shape ``(N,)``.

        Raises
        ------
        InvalidArgumentError, ShapeError, NonFiniteError
            If shapes do not fit, or a number is NaN or a value infinite.
        """
        found = column("values", values)
        ends = as_numbers(
            "conformal_intervals",
            on_host("conformal_intervals", conformal_intervals),
            infinite=True,
        )
        if ends.ndim != 2 or ends.shape[1] != 2:
            raise ShapeError(f"conformal_intervals must have shape (N, 2), but has {ends.shape}")
        check_same_length("conformal_intervals", len(ends), "values", len(found))
        held: np.ndarray = (ends[:, 0] <= found) & (found <= ends[:, 1])
        return held


def as_intervals(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Ends side by side, shape ``(N, 2)``."""
    return np.stack([lower, upper], axis=1)
