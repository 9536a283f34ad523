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
        for parameter in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def largest_bytes(jaxpr: Any) -> int:
    """Bytes of the largest array that a program makes on its way."""
    return max((_bytes(v.aval) for e in equations(jaxpr) for v in e.outvars), default=0)


def coarsest_eps(jaxpr: Any) -> float:
    """The largest rounding unit of what a program takes and computes; 0 without floating point.

    A layer may compute in bfloat16 between parameters and outputs that are both float32.
    """
    variables = [*jaxpr.invars, *jaxpr.outvars]
    variables += [variable for equation in equations(jaxpr) for variable in equation.outvars]
    dtypes: set[Any] = {getattr(variable.aval, "dtype", None) for variable in variables} - {None}
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    return max((float(jnp.finfo(d).eps) for d in floating), default=0.0)  # type: ignore[no-untyped-call]


def _bytes(aval: Any) -> int:
    itemsize: int = getattr(getattr(aval, "dtype", None), "itemsize", 1)
    return math.prod(getattr(aval, "shape", ())) * itemsize
