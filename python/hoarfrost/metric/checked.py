"""Labels and probabilities of classes, as the scores take them: checked, and of one backend."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.metric.arrays import (
    as_array,
    as_classes,
    check_not_empty,
    first_true,
    is_traced,
    wide_in_program,
)

# What rounding may add to a probability and to a row of them: in half precision, and in others
# (three decimals, and a softmax of large logits in float32).
_ROUNDING_IN_HALF, _ROUNDING = 1e-2, 1e-3


def checked_labels(preds: Any, targets: Any) -> tuple[Any, Any]:
    """Predicted and true classes, checked; of one backend."""
    preds, targets = as_array("preds", preds), as_array("targets", targets)
    for name, value in (("preds", preds), ("targets", targets)):
        if len(np.shape(value)) != 1:
            raise ShapeError(
                f"{name} must be a one-dimensional array of classes, but has shape "
                f"{np.shape(value)}; of probabilities, take argmax(-1) first"
            )
    if np.shape(preds) != np.shape(targets):
        raise ShapeError(
            "preds and targets must have the same length, but have "
            f"{np.shape(preds)} and {np.shape(targets)}"
        )
    check_not_empty(np.shape(targets))
    preds, targets = as_classes("preds", preds), as_classes("targets", targets)
    if is_traced(preds, targets):
        preds, targets = _in_program("preds", preds), _in_program("targets", targets)
    return preds, targets


def _in_program(name: str, labels: Any) -> Any:
    """Known labels beside traced ones, as JAX has them."""
    if isinstance(labels, jax.core.Tracer):
        return labels
    dtype = jax.dtypes.canonicalize_dtype(labels.dtype)
    if labels.dtype != np.bool_ and (labels.astype(dtype) != labels).any():
        raise InvalidArgumentError(
            f"{name} holds {labels[labels.astype(dtype) != labels][0]}, which is no {dtype}; call "
            "the score outside of jax.jit, or number the classes from 0"
        )
    return jnp.asarray(labels)


def dtype_of_probs(probs: Any) -> Any:
    """The dtype of probabilities, half precision widened."""
    if not jnp.issubdtype(probs.dtype, np.floating):
        return np.float64
    return probs.dtype if probs.dtype.itemsize > 2 else np.float32


def checked_probs(probs: Any, targets: Any, log: bool = False) -> tuple[Any, Any]:
    """Probabilities in float64 and labels of their columns, checked; of one backend."""
    probs, targets = as_array("probs", probs), as_array("targets", targets)
    shape = np.shape(probs)
    if len(shape) != 2 or np.shape(targets) != shape[:1]:
        raise ShapeError(
            "probs must have shape (N, C), a row of class probabilities for each point, and "
            f"targets shape (N,), but they have {shape} and {np.shape(targets)}"
        )
    check_not_empty(shape)
    if not is_traced(targets):
        targets = labels_of_columns(targets, shape[1])
    if not is_traced(probs):
        probs = sound_probs(probs, log)
    if is_traced(probs, targets):
        # In a program that is not in float64 there are no labels of 64 bits.
        return wide_in_program(probs), jnp.asarray(targets).astype(int)
    return probs, targets


def labels_of_columns(
    labels: np.ndarray, num_classes: int, name: str = "targets", of: str = "probs"
) -> np.ndarray:
    """Labels as int64, each that of a column."""
    wrong = ~((labels >= 0) & (labels < num_classes) & (labels == np.floor(labels)))
    if wrong.any():
        raise InvalidArgumentError(
            f"{name} must be classes from 0 to {num_classes - 1}, the columns of {of}, but "
            f"{name}[{int(wrong.argmax())}] is {labels[wrong.argmax()]}"
        )
    return labels.astype(np.int64)


def sound_probs(probs: np.ndarray, log: bool = False, name: str = "probs") -> np.ndarray:
    """Probabilities in float64; what rounding took below 0 is 0."""
    half = jnp.issubdtype(probs.dtype, np.floating) and probs.dtype.itemsize == 2
    rounding = _ROUNDING_IN_HALF if half else _ROUNDING
    values: np.ndarray = probs.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if log and not high <= rounding:
        raise InvalidArgumentError(
            f"with log=True, {name} must be log-probabilities, none above 0, but the largest is "
            f"{high}; give logits through jax.nn.log_softmax, probabilities with log=False"
        )
    if not log and not (low >= -rounding and high <= 1.0 + rounding):
        raise InvalidArgumentError(
            f"{name} must be probabilities from 0 to 1, but go from {low} to {high}; give logits "
            "through jax.nn.softmax"
        )
    sums = (np.exp(values) if log else values).sum(axis=1)
    wrong = ~(np.abs(sums - 1.0) <= rounding)
    if wrong.any():
        (row,) = first_true(wrong)
        raise InvalidArgumentError(
            f"every row of {name} must add up to 1, but {'exp of ' if log else ''}row {row} adds "
            f"up to {sums[row]:.6g}; "
            + (
                "take jax.nn.log_softmax of the logits"
                if log
                else "give all classes, as jax.nn.softmax of the logits does, or divide by the sum"
            )
        )
    return values if log else np.maximum(values, 0.0)
