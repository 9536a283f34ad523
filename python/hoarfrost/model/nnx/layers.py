"""What the NNX networks share: last layers, dropout, numbered layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.checks import check_counts


class OutputSubNet(nnx.Module):  # type: ignore[misc]
    """One Linear layer, "Dense_0", ``(..., D) -> (..., output_dim)``.

    Parameters
    ----------
    width : int
        D.
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layer computes and returns; its parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self, width: int, output_dim: int, dtype: Any = jnp.float32, *, rngs: nnx.Rngs
    ) -> None:
        check_counts(output_dim=output_dim)
        self.Dense_0 = nnx.Linear(width, output_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(..., output_dim)``."""
        return self.Dense_0(x)


def make_dropout(rate: float, rngs: nnx.Rngs, **options: Any) -> nnx.Dropout:
    """A dropout layer, with a random stream of its own only where it drops something."""
    return nnx.Dropout(rate, rngs=rngs if rate else None, **options)


def set_numbered(module: nnx.Module, name: str, layers: Sequence[Any], start: int = 0) -> None:
    """Attributes ``name{start}``, ``name{start + 1}``, ...: paths as in Linen, not a list's."""
    for i, layer in enumerate(layers, start):
        setattr(module, f"{name}{i}", layer)


def numbered(module: nnx.Module, name: str, count: int, start: int = 0) -> Iterator[Any]:
    """The layers that `set_numbered` set."""
    return (getattr(module, f"{name}{i}") for i in range(start, start + count))
