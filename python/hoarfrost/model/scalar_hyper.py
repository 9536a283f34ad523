"""Outputs that are all one given number, which no training changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts, is_number
from hoarfrost.errors import InvalidArgumentError


class ScalarHyperparameterModel(nn.Module):  # type: ignore[misc]
    """A given number for every output, ``(B, ...) -> (B, output_dim)``.

    It has one parameter without numbers, "none", so that it has a tree of parameters.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    value : float
        Each of them.

    Raises
    ------
    InvalidArgumentError
        If `value` is not a finite number.
    """

    output_dim: int
    value: float

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        check_scalar(self.value)
        super().__post_init__()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``, all equal; `train` changes nothing here."""
        self.param("none", nn.initializers.zeros, (0,))
        return jnp.full((x.shape[0], self.output_dim), float(self.value))


def check_scalar(value: object) -> None:
    """Raise unless `value` is a finite number."""
    if not is_number(value):
        raise InvalidArgumentError(f"value is {value!r}; give a finite number")
