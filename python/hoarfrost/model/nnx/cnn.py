"""A small convolutional network in NNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.model.arguments import check_image, check_rate, check_shape
from hoarfrost.model.nnx.layers import make_dropout


class CNNHiddenLayers(nnx.Module):  # type: ignore[misc]
    """A convolution, max pooling and dropout, ``(B, height, width, channels) -> (B, D)``.

    D is ``32 * ((height - 2) // 2) * ((width - 2) // 2)``.

    Parameters
    ----------
    channels : int
        Of the images.
    dropout_rate : float
        The share of units that training drops.
    dtype : dtype
        In which the layer computes and returns; its parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.
    """

    def __init__(
        self,
        channels: int,
        dropout_rate: float = 0.0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.Conv_0 = nnx.Conv(channels, 32, (3, 3), padding="VALID", dtype=dtype, rngs=rngs)
        self.dropout = make_dropout(dropout_rate, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features, shape ``(B, D)``."""
        check_image(x)
        x = nnx.max_pool(nnx.relu(self.Conv_0(x)), (2, 2), strides=(2, 2))
        return self.dropout(x).reshape(x.shape[0], -1)


class CNNLastLayer(nnx.Module):  # type: ignore[misc]
    """Two Linear layers with nothing between them, ``(B, D) -> (B, 128) -> (B, output_dim)``.

    Parameters
    ----------
    width : int
        D.
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self, width: int, output_dim: int, dtype: Any = jnp.float32, *, rngs: nnx.Rngs
    ) -> None:
        self.Dense_0 = nnx.Linear(width, 128, dtype=dtype, rngs=rngs)
        self.Dense_1 = nnx.Linear(128, output_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.Dense_1(self.Dense_0(x))


class CNN(nnx.Module):  # type: ignore[misc]
    """One convolution and two Linear layers, ``(B, height, width, channels) -> (B, output_dim)``.

    Fortuna's names, other than those of its other networks: "hidden_layers" and "last_layer".

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, channels)``, at least 4 x 4.
    output_dim : int
        How many outputs a point has.
    dropout_rate : float
        The share of the convolution's outputs that training drops.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.

    Raises
    ------
    InvalidArgumentError
        If a size or the rate makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        dropout_rate: float = 0.0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim)
        check_rate(dropout_rate)
        height, width, channels = check_shape(input_shape, 3, "(height, width, channels)")
        if min(height, width) < 4:
            raise InvalidArgumentError(
                f"input_shape is {(height, width, channels)}; CNN takes images of at least 4 x 4"
            )
        self.hidden_layers = CNNHiddenLayers(channels, dropout_rate, dtype, rngs=rngs)
        size = 32 * ((height - 2) // 2) * ((width - 2) // 2)
        self.last_layer = CNNLastLayer(size, output_dim, dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.last_layer(self.hidden_layers(x))
