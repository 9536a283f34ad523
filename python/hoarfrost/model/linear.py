"""A linear model."""

from __future__ import annotations

import jax
from flax import linen as nn

from hoarfrost.checks import check_counts


class LinearModel(nn.Module):  # type: ignore[misc]
    """One Dense layer, "last", ``(B, D) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    """

    output_dim: int

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        super().__post_init__()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; `train` changes nothing here."""
        return nn.Dense(self.output_dim, name="last")(x)
