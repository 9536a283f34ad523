"""Scores of predicted numbers: errors and the coverage of intervals.

As the scores of classes, each is computed in float64, returns a JAX scalar, and may be called
inside ``jax.jit``.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hoarfrost.errors import NonFiniteError, ShapeError
from hoarfrost.metric.arrays import (
    as_array,
    as_numbers,
    as_scalar,
    backend,
    check_not_empty,
    is_traced,
    wide_in_program,
)


def root_mean_squared_error(preds: Any, targets: Any) -> jax.Array:
    """Root of the mean over points of the squared error, summed over the outputs of a point.

    Parameters
    ----------
    preds, targets : (N,) or (N, D) arrays
        Predictions and true values, of the same shape.

    Raises
    ------
    ShapeError
        If the shapes differ, ``(N,)`` against ``(N, 1)`` included: nothing is broadcast.
    InvalidArgumentError, NonFiniteError
        If they hold anything but finite real numbers, or entries that are masked.
    """
    preds, targets = as_array("preds", preds), as_array("targets", targets)
    shape = np.shape(preds)
    if shape != np.shape(targets) or len(shape) not in (1, 2):
        raise ShapeError(
            f"preds and targets must have the same shape, (N,) or (N, D), but have {shape} and "
            f"{np.shape(targets)}; reshape one of them"
        )
    check_not_empty(shape)
    preds, targets = as_numbers("preds", preds), as_numbers("targets", targets)
    if is_traced(preds, targets):
        preds, targets = wide_in_program(preds), wide_in_program(targets)
    xp = backend(preds, targets)
    with np.errstate(over="ignore"):
        score = xp.sqrt(xp.sum((preds - targets) ** 2) / shape[0])
    if xp is np and not np.isfinite(score):
        raise NonFiniteError(
            "preds and targets are so far apart that the square of their distance is too large for "
            "float64; give them in a larger unit"
        )
    return as_scalar("the error", score)


def prediction_interval_coverage_probability(
    lower_bounds: Any, upper_bounds: Any, targets: Any
) -> jax.Array:
    """Fraction of targets that lie in their interval, the bounds included (PICP).

    Parameters
    ----------
    lower_bounds, upper_bounds, targets : (N,) or (N, 1) arrays
        Ends of the intervals and true values, one of each for every point.

    Raises
    ------
    ShapeError
        If one of them has another shape, or they differ in length.
    InvalidArgumentError, NonFiniteError
        If they hold anything but real numbers, entries that are masked, NaN, or infinite targets.
        Bounds may be infinite.
    """
    values = {"lower_bounds": lower_bounds, "upper_bounds": upper_bounds, "targets": targets}
    values = {name: as_array(name, value) for name, value in values.items()}
    shapes = {name: np.shape(value) for name, value in values.items()}
    for name, shape in shapes.items():
        if (
            len(shape) not in (1, 2)
            or shape[1:] not in ((), (1,))
            or shape[:1] != shapes["targets"][:1]
        ):
            raise ShapeError(
                f"lower_bounds, upper_bounds and targets must have shape (N,) or (N, 1) with the "
                f"same N, but {name} has {shape} ({shapes})"
            )
    check_not_empty(shapes["targets"])
    low, high, true = (
        as_numbers(name, value, infinite=name != "targets").ravel()
        for name, value in values.items()
    )
    if is_traced(low, high, true):
        low, high, true = map(wide_in_program, (low, high, true))
    xp = backend(low, high, true)
    return as_scalar("the coverage", xp.mean((low <= true) & (true <= high)))


def rmse(preds: Any, targets: Any) -> jax.Array:
    """Short name of `root_mean_squared_error`."""
    return root_mean_squared_error(preds, targets)


def picp(lower_bounds: Any, upper_bounds: Any, targets: Any) -> jax.Array:
    """Short name of `prediction_interval_coverage_probability`."""
    return prediction_interval_coverage_probability(lower_bounds, upper_bounds, targets)
