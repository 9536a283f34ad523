"""What all scores do with their arguments first."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import ShapeError


def arrays(*values: Any) -> list[Any]:
    """The arguments with lists of numbers made arrays; arrays, traced or not, stay as they are."""
    return [value if hasattr(value, "dtype") else np.asarray(value) for value in values]


def wide(values: jax.Array) -> jax.Array:
    """The values in float32 or wider, so that half precision is not summed in half precision."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def check_not_empty(shape: tuple[int, ...]) -> None:
    """Raise `ShapeError` if there is no data point."""
    if 0 in shape:
        raise ShapeError(f"there is no data point to score: the arrays have shape {shape}")
