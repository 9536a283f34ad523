"""Means and variances that a user gives in place of those that a method would compute."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import real_numbers, shown
from hoarfrost.dtypes import is_real, narrowed
from hoarfrost.errors import InvalidArgumentError, ShapeError


def given_means(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """The means of the targets, ``(N, D)`` or with positions, in the dtype that they have in JAX.

    Raises
    ------
    InvalidArgumentError, NonFiniteError
        If they are no finite real numbers, or too large for that dtype.
    ShapeError
        If they have another shape.
    """
    numbers = _numbers(name, value, shape)
    if numbers.shape != shape:
        raise ShapeError(f"{name} have shape {numbers.shape}; {_wanted(shape)}")
    return _in_jax(name, value, numbers)


def given_variances(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """Variances of the targets, of a shape that broadcasts to ``(N, D)``; raises as `given_means`.

    They may be 0 and not less.
    """
    numbers = _numbers(name, value, shape)
    try:
        fits = np.broadcast_shapes(numbers.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{name} have shape {numbers.shape}; {_wanted(shape)}, or one for all")
    if (numbers < 0).any():
        raise InvalidArgumentError(f"{name} hold {numbers.min()}; no variance is below 0")
    return _in_jax(name, value, numbers)


def _wanted(shape: tuple[int, ...]) -> str:
    points = math.prod(shape[:-1])
    return (
        f"give one for each of {points} points and each of their {shape[-1]} targets or classes, "
        f"shape {shape}"
    )


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    numbers = real_numbers(value)
    if numbers is None:
        raise InvalidArgumentError(
            f"{name} is {shown(value)}; give an array of finite real numbers of shape {shape}"
        )
    return numbers


def _in_jax(name: str, value: Any, numbers: np.ndarray) -> jax.Array:
    given = np.asarray(value).dtype
    floating = jnp.issubdtype(given, np.floating) and is_real(given)
    dtype = jax.dtypes.canonicalize_dtype(given.newbyteorder("=") if floating else np.float64)
    return jnp.asarray(narrowed(numbers, dtype, f"one of {name}", "give targets in a larger unit"))
