"""The last layer of the residual networks and the transformers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class OutputSubNet(nn.Module):  # type: ignore[misc]
    """One Dense layer, ``(..., D) -> (..., output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layer computes and returns; its parameters are float32.
    """

    output_dim: int
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(..., output_dim)``; `train` changes nothing here."""
        return nn.Dense(self.output_dim, dtype=self.dtype)(x)
