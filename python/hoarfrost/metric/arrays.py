"""What all scores do with their arguments first, and with their result last.

Numbers that are known are scored on the host, in float64. Inside a program that is being traced
only shapes and dtypes are known, and JAX scores in float32 or wider.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import first_not_finite, narrowed
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.fork import check_not_forked

# From here on float64 skips whole numbers.
_LARGEST_WHOLE = 2**53


def is_traced(*values: Any) -> bool:
    """Whether one of the values is an argument of a program that is being traced."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def backend(*values: Any) -> ModuleType:
    """The module that scores these values: NumPy, or JAX inside a program."""
    return jnp if is_traced(*values) else np


def as_array(name: str, value: Any) -> Any:
    """The argument as an array of real numbers; a traced one stays as it is.

    A loader of targets is gone over.

    Raises
    ------
    InvalidArgumentError
        If it holds anything but real numbers, or entries that are masked.
    ForkedProcessError
        In a child of a process that has used JAX, in which scores are given.
    """
    check_not_forked("a metric")
    if hasattr(value, "to_array_targets"):
        value = value.to_array_targets()
    if not isinstance(value, jax.core.Tracer):
        if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
            raise InvalidArgumentError(
                f"{name} is an array with {int(np.ma.getmaskarray(value).sum())} masked entries; "
                "leave those points out of all arguments first"
            )
        try:
            value = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"{name} is {type(value).__name__} that makes no array ({error}); give an array "
                "of real numbers"
            ) from None
    dtype = value.dtype
    # Durations count as whole numbers to NumPy.
    real = dtype == np.bool_ or (jnp.issubdtype(dtype, np.integer) and dtype.kind != "m")
    if not real and not jnp.issubdtype(dtype, np.floating):
        raise InvalidArgumentError(
            f"{name} has dtype {dtype}; give an array of real numbers"
            + (" (number the classes from 0)" if dtype.kind in "OSUT" else "")
        )
    return value


def as_classes(name: str, value: Any) -> Any:
    """Labels as whole numbers, of which none is rounded.

    Raises
    ------
    InvalidArgumentError, NonFiniteError
        If one is no whole number, or too large for an integer.
    """
    value = as_array(name, value)
    if isinstance(value, jax.core.Tracer) or not jnp.issubdtype(value.dtype, np.floating):
        return value
    wide = _finite(name, value)
    wrong = (wide != np.floor(wide)) | (np.abs(wide) >= 2.0**63)
    if wrong.any():
        first = first_true(wrong)
        raise InvalidArgumentError(
            f"{name} must be classes, whole numbers below 2**63, but {name}{list(first)} is "
            f"{value[first]}; give the labels themselves"
        )
    return wide.astype(np.int64)


def as_numbers(name: str, value: Any, *, infinite: bool = False) -> Any:
    """Numbers in float64, of which none is rounded; infinite ones only where that is said.

    Raises
    ------
    InvalidArgumentError, NonFiniteError
        If one is a NaN, infinite, or a whole number that float64 does not have.
    """
    value = as_array(name, value)
    if isinstance(value, jax.core.Tracer):
        return value
    if not jnp.issubdtype(value.dtype, np.floating):
        wide = value.astype(np.float64)
        if value.size and np.abs(wide).max() >= _LARGEST_WHOLE:
            raise InvalidArgumentError(
                f"{name} holds whole numbers from 2**53 on, which float64 rounds; subtract what "
                "the arguments have in common first"
            )
        return wide
    if not infinite:
        return _finite(name, value)
    wide = value.astype(np.float64)
    if np.isnan(wide).any():
        first = first_true(np.isnan(wide))
        raise NonFiniteError(f"{name}{list(first)} is NaN; leave such points out")
    return wide


def wide_in_program(values: Any) -> Any:
    """Traced values in float32 or wider, so that half precision is not summed in half precision."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def as_scalar(name: str, value: Any) -> jax.Array:
    """A score as a JAX scalar."""
    if isinstance(value, jax.core.Tracer):
        return value
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    remedy = "give predictions and targets in a larger unit"
    return jnp.asarray(narrowed(np.asarray(value, np.float64), dtype, name, remedy))


def check_not_empty(shape: tuple[int, ...]) -> None:
    """Raise `ShapeError` if there is no data point."""
    if 0 in shape:
        raise ShapeError(f"there is no data point to score: the arrays have shape {shape}")


def first_true(flags: np.ndarray) -> tuple[int, ...]:
    """Index of the first flag that is set."""
    return tuple(int(i) for i in np.argwhere(flags)[0])


def _finite(name: str, value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # longer than float64: infinite there, and named below
        wide: np.ndarray = value.astype(np.float64)
    if not np.isfinite(wide).all():
        first = first_not_finite(wide)
        raise NonFiniteError(f"{name}{list(first)} is {value[first]}; leave such points out")
    return wide
