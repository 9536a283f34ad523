"""Outputs that are given numbers, which no training changes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hoarfrost.errors import InvalidArgumentError


class HyperparameterModel(nn.Module):  # type: ignore[misc]
    """A given vector for every input, ``(B, ...) -> (B, len(value))``.

    It has one parameter without numbers, "none", so that it has a tree of parameters.

    Parameters
    ----------
    value : array
        The outputs of each point, shape ``(C,)``.

    Raises
    ------
    InvalidArgumentError
        If `value` is not a vector of finite numbers.
    """

    value: Any

    def __post_init__(self) -> None:
        check_vector(self.value)
        super().__post_init__()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, C)``, equal in all rows; `train` changes nothing here."""
        self.param("none", nn.initializers.zeros, (0,))
        value = jnp.asarray(self.value, jnp.result_type(float))
        return jnp.broadcast_to(value[None, :], (x.shape[0], value.shape[0]))


def check_vector(value: Any) -> None:
    """Raise unless `value` is a vector of finite numbers."""
    array = np.asarray(value)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        raise InvalidArgumentError(
            f"value has shape {array.shape} and dtype {array.dtype}; give one number for each "
            "output, shape (outputs,)"
        )
    if not np.isfinite(array).all():
        raise InvalidArgumentError("value holds a NaN or an infinity; give finite numbers")
