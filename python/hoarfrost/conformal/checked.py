"""What conformal prediction is given: checked, in float64 on the host."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from hoarfrost.checks import is_number, plain, shown
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.metric.arrays import as_array, as_numbers, first_true, is_traced
from hoarfrost.metric.checked import labels_of_columns, sound_probs


def on_host(name: str, value: Any) -> np.ndarray:
    """An array of real numbers, with at least one entry."""
    if is_traced(value):
        raise InvalidArgumentError(
            f"{name} is an argument of a program that JAX traces; call conformal prediction "
            "outside of jax.jit"
        )
    found: np.ndarray = as_array(name, value)
    if found.size == 0:
        raise ShapeError(f"{name} has shape {found.shape}, and holds no number; give a point")
    return found


def numbers(name: str, value: Any) -> np.ndarray:
    """Finite numbers in float64."""
    found: np.ndarray = as_numbers(name, on_host(name, value))
    return found


def column(name: str, value: Any, like: np.ndarray | None = None, of: str = "") -> np.ndarray:
    """One finite number a point, ``(N,)`` or ``(N, 1)``, as ``(N,)``; as many as `like` has."""
    found = numbers(name, value)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise ShapeError(
            f"{name} must have shape (N,) or (N, 1), one number a point, but has {found.shape}"
        )
    if like is not None:
        check_same_length(name, len(found), of, len(like))
    return found


def check_same_length(name: str, length: int, of: str, wanted: int) -> None:
    """Raise `ShapeError` unless two arguments have as many points."""
    if length != wanted:
        raise ShapeError(f"{name} has {length} points, but {of} {wanted}; give as many")


def positive_column(name: str, value: Any, like: np.ndarray, of: str) -> np.ndarray:
    """One number above 0 a point, ``(N,)``."""
    found = column(name, value, like, of)
    if (found <= 0).any():
        (first,) = first_true(found <= 0)
        raise InvalidArgumentError(
            f"{name} must be above 0, but {name}[{first}] is {found[first]}; give standard "
            "deviations, or widths"
        )
    return found


def probabilities(name: str, value: Any, num_classes: int | None = None, of: str = "") -> Any:
    """Class probabilities in float64, shape ``(N, C)``, rows that add up to 1."""
    found = on_host(name, value)
    if found.ndim != 2:
        raise ShapeError(
            f"{name} must have shape (N, C), a row of class probabilities for each point, but has "
            f"{found.shape}"
        )
    if num_classes is not None and found.shape[1] != num_classes:
        raise ShapeError(
            f"{name} has {found.shape[1]} classes, but {of} {num_classes}; give the same"
        )
    return sound_probs(found, name=name)


def labels(name: str, value: Any, probs: np.ndarray, of: str) -> np.ndarray:
    """Classes, whole numbers that are columns of `probs`, shape ``(N,)``."""
    found = on_host(name, value)
    if found.ndim != 1:
        raise ShapeError(f"{name} must have shape (N,), a class for each point, not {found.shape}")
    check_same_length(name, len(found), of, len(probs))
    return labels_of_columns(found, probs.shape[1], name, of)


def folds(**arguments: Any) -> list[list[Any]]:
    """Lists of as many arrays, one a fold; the arrays are not checked."""
    (first, known), *_ = arguments.items()
    for name, value in arguments.items():
        if not isinstance(value, list | tuple) or not value:
            kind = f"a {type(value).__name__}" if value is not None else "None"
            raise InvalidArgumentError(
                f"{name} is {'empty' if isinstance(value, list | tuple) else kind}; give a list of "
                "arrays, one for each fold"
            )
        if len(value) != len(known):
            raise ShapeError(f"{name} has {len(value)} folds, but {first} {len(known)}")
    if len(known) < 2:
        raise InvalidArgumentError(f"{first} has one fold; cross-validation takes at least two")
    return [list(value) for value in arguments.values()]


def check_not_negative(name: str, values: np.ndarray) -> None:
    """Raise `InvalidArgumentError` unless every number is at least 0."""
    if (values < 0).any():
        (first,) = first_true(values < 0)
        raise InvalidArgumentError(
            f"{name} must be at least 0, but {name}[{first}] is {values[first]}; give what the "
            "method score gave"
        )


def finite_scores(scores: np.ndarray) -> np.ndarray:
    """The scores; raises `NonFiniteError` where one is beyond float64."""
    if not np.isfinite(scores).all():
        first = first_true(~np.isfinite(scores))
        raise NonFiniteError(
            f"the score of validation point {first[0]} is beyond float64; give predictions and "
            "targets in a larger unit"
        )
    return scores


def given_quantile(value: Any, *, negative: bool) -> float:
    """A quantile of scores that was computed before; infinity is one."""
    value = plain(value)
    endless = isinstance(value, Real) and value == math.inf
    if not endless and (not is_number(value) or (value < 0 and not negative)):
        raise InvalidArgumentError(
            f"quantile is {shown(value)}; give the number that the method quantile gave"
        )
    return float(value)
