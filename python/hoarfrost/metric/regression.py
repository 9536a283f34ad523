"""Scores of predicted numbers: errors and the coverage of intervals.

As the scores of classes, each is compiled once per shape and returns a JAX scalar.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import ShapeError
from hoarfrost.metric.arrays import arrays, check_not_empty, wide


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
    """
    preds, targets = arrays(preds, targets)
    shape = np.shape(preds)
    if shape != np.shape(targets) or len(shape) not in (1, 2):
        raise ShapeError(
            f"preds and targets must have the same shape, (N,) or (N, D), but have {shape} and "
            f"{np.shape(targets)}; reshape one of them"
        )
    check_not_empty(shape)
    return _root_mean_squared_error(preds, targets)


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
    """
    lower_bounds, upper_bounds, targets = arrays(lower_bounds, upper_bounds, targets)
    values = {"lower_bounds": lower_bounds, "upper_bounds": upper_bounds, "targets": targets}
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
    return _coverage(lower_bounds, upper_bounds, targets)


def rmse(preds: Any, targets: Any) -> jax.Array:
    """Short name of `root_mean_squared_error`."""
    return root_mean_squared_error(preds, targets)


def picp(lower_bounds: Any, upper_bounds: Any, targets: Any) -> jax.Array:
    """Short name of `prediction_interval_coverage_probability`."""
    return prediction_interval_coverage_probability(lower_bounds, upper_bounds, targets)


@jax.jit
def _root_mean_squared_error(preds: jax.Array, targets: jax.Array) -> jax.Array:
    squares = (wide(preds) - wide(targets)) ** 2
    return jnp.sqrt(jnp.sum(squares) / squares.shape[0])


@jax.jit
def _coverage(lower: jax.Array, upper: jax.Array, targets: jax.Array) -> jax.Array:
    lower, upper, targets = lower.ravel(), upper.ravel(), targets.ravel()
    return jnp.mean((lower <= targets) & (targets <= upper))
