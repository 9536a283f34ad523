"""The prior's precision and mean as users give them, and as vectors over the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.types import Array, Tree, join, path_of


@dataclass(frozen=True, eq=False)
class PriorPrecision:
    """A checked prior precision.

    Attributes
    ----------
    value : float or tree
        As users see it: a float, or a tree like the trainable one of floats or float64 arrays.
    vector : ndarray
        One number a parameter, shape ``(P,)``, float64, in the order of `ravel_pytree`.
    """

    value: Any
    vector: Array


def resolve_prior_precision(
    value: Any, trainable: Tree, *, argument: str = "prior_precision"
) -> PriorPrecision:
    """Check a prior precision against the trainable tree and spread it over the parameters.

    Parameters
    ----------
    value : number, tree of numbers or tree of arrays
        One precision for all, one a leaf, or one a parameter.
    trainable : tree of arrays
        The trainable tree.

    Raises
    ------
    InvalidArgumentError
        If it is no number or tree of numbers, has other leaves than the trainable tree, or is not
        positive and finite (the leaf is named).
    ShapeError
        If an array of a leaf has another shape than the leaf.
    """
    return PriorPrecision(*_spread(value, trainable, argument, _checked))


def resolve_prior_mean(value: Any, trainable: Tree, *, argument: str = "prior_mean") -> Array:
    """Check a prior mean against the trainable tree and spread it over the parameters.

    Parameters
    ----------
    value : number, tree of numbers or tree of arrays
        One mean for all, one a leaf, or one a parameter.
    trainable : tree of arrays
        The trainable tree.

    Returns
    -------
    ndarray
        Shape ``(P,)``, float64, in the order of `ravel_pytree`.

    Raises
    ------
    InvalidArgumentError, ShapeError
        As for a precision, but any finite number will do.
    """
    return _spread(value, trainable, argument, _finite)[1]


def _spread(
    value: Any, trainable: Tree, argument: str, check: Callable[[Any, str, str], Array]
) -> tuple[Any, Array]:
    """A value as users see it, and one number a parameter."""
    leaves_with_path, treedef = jax.tree_util.tree_flatten_with_path(trainable)
    shapes = {_names(path): tuple(np.shape(leaf)) for path, leaf in leaves_with_path}
    if jax.tree_util.all_leaves([value]) and np.ndim(value) == 0:
        number = float(check(value, argument, ""))
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        return number, np.full(size, number)
    given = {_names(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]}
    if set(given) != set(shapes):
        missing = ", ".join(join(name) for name in shapes if name not in given) or "none"
        extra = ", ".join(join(name) or "(the root)" for name in given if name not in shapes)
        raise InvalidArgumentError(
            f"{argument} must be a number or a tree with the trainable leaves "
            f"{', '.join(join(name) for name in shapes)}; missing: {missing}; "
            f"not trainable: {extra or 'none'}"
        )
    kept: list[Any] = []
    vector: list[Array] = []
    for name, shape in shapes.items():
        array = check(given[name], argument, join(name))
        if array.ndim == 0:
            kept.append(float(array))
        elif array.shape == shape:
            kept.append(array)
        else:
            raise ShapeError(
                f"{argument} at {join(name) or 'the root'!r} has shape {array.shape}; give a "
                f"number, or an array of the leaf's shape {shape}"
            )
        vector.append(np.broadcast_to(array, shape).ravel())
    return jax.tree.unflatten(treedef, kept), np.concatenate(vector)


def _checked(value: Any, argument: str, where: str) -> Array:
    """The value as float64, if it is numbers that are positive and finite."""
    at = f" at {where!r}" if where else ""
    array = _numbers(value, argument, at, "a positive number")
    wrong = ~(np.isfinite(array) & (array > 0))
    if wrong.any():
        raise InvalidArgumentError(
            f"{argument}{at} is {array[wrong].flat[0]}; every prior precision must be positive and "
            "finite"
        )
    return array


def _finite(value: Any, argument: str, where: str) -> Array:
    """The value as float64, if it is numbers that are finite."""
    at = f" at {where!r}" if where else ""
    array = _numbers(value, argument, at, "a number")
    wrong = ~np.isfinite(array)
    if wrong.any():
        raise InvalidArgumentError(
            f"{argument}{at} is {array[wrong].flat[0]}; every prior mean must be finite"
        )
    return array


def _numbers(value: Any, argument: str, at: str, wanted: str) -> Array:
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise InvalidArgumentError(f"{argument}{at} has masked entries; give {wanted} for each")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    real = jnp.issubdtype(array.dtype, np.floating) or jnp.issubdtype(array.dtype, np.integer)
    if not real or array.dtype.kind == "m":  # durations count as whole numbers to NumPy
        raise InvalidArgumentError(f"{argument}{at} is {shown(value)}; give {wanted}")
    with np.errstate(over="ignore"):  # longer than float64: infinite there, and refused
        return array.astype(np.float64)


def _names(key_path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(map(str, path_of(key_path)))
