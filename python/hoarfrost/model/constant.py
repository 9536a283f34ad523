"""Outputs that are parameters, one for each output: a log-variance that no input changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import ModuleDef


class ConstantModel(nn.Module):  # type: ignore[misc]
    """The parameter "constant" for every input, ``(B, ...) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has, and parameters the model.
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
        """Outputs, shape ``(B, output_dim)``, equal in all rows; `train` changes nothing here."""
        constant = self.param("constant", self.initializer_fun, (self.output_dim,))
        return jnp.broadcast_to(constant[None, :], (x.shape[0], self.output_dim))
