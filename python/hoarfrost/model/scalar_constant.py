"""Outputs that are all one parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import ModuleDef


class ScalarConstantModel(nn.Module):  # type: ignore[misc]
    """The parameter "scalar", shape ``(1,)``, for every output, ``(B, ...) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    initializer_fun : callable
        An initialiser of `flax.linen.initializers`.
    """

    output_dim: int
    initializer_fun: ModuleDef = nn.initializers.zeros

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        super().__post_init__()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``, all equal; `train` changes nothing here."""
        scalar = self.param("scalar", self.initializer_fun, (1,))
        return jnp.broadcast_to(scalar[None, :], (x.shape[0], self.output_dim))
