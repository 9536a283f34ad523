"""Looking into a traced program, the programs inside it included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation, also of loops, of the branches of a condition, and of inner programs."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(equation):
            yield from equations(inner)


def largest_bytes(jaxpr: Any) -> int:
    """Bytes of the largest array that a program makes on its way."""
    return max((bytes_of(v.aval) for e in equations(jaxpr) for v in e.outvars), default=0)


def multiply_adds(jaxpr: Any) -> int:
    """Products that are added up in a program: of matrices and of convolutions, loops included."""
    return sum(map(_multiply_adds, jaxpr.eqns))


def coarsest_eps(jaxpr: Any) -> float:
    """The largest rounding unit of what a program takes and computes; 0 without floating point.

    A layer may compute in bfloat16 between parameters and outputs that are both float32.
    """
    variables = [*jaxpr.invars, *jaxpr.outvars]
    variables += [variable for equation in equations(jaxpr) for variable in equation.outvars]
    dtypes: set[Any] = {getattr(variable.aval, "dtype", None) for variable in variables} - {None}
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return max((float(jnp.finfo(d).eps) for d in floating), default=0.0)  # type: ignore[no-untyped-call]


def bytes_of(aval: Any) -> int:
    """Bytes of an array by its shape and dtype."""
    itemsize: int = getattr(getattr(aval, "dtype", None), "itemsize", 1)
    return math.prod(getattr(aval, "shape", ())) * itemsize


def _inner(equation: Any) -> Iterator[Any]:
    """The programs inside an equation."""
    for parameter in jax.tree.leaves(tuple(equation.params.values())):
        inner = getattr(parameter, "jaxpr", parameter)
        if hasattr(inner, "eqns"):
            yield inner


def _multiply_adds(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    size = sum(math.prod(getattr(v.aval, "shape", ())) for v in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        filters = kernel[params["dimension_numbers"].rhs_spec[0]]
        return size * math.prod(kernel) // max(1, filters)
    times: int = params.get("length", 1) if name == "scan" else 1
    return times * sum(map(multiply_adds, _inner(equation)))
