"""A small convolutional network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import check_image, check_rate


class CNNHiddenLayers(nn.Module):  # type: ignore[misc]
    """A convolution, max pooling and dropout, ``(B, height, width, channels) -> (B, D)``.

    D is ``32 * ((height - 2) // 2) * ((width - 2) // 2)``.

    Parameters
    ----------
    dropout_rate : float
        The share of units that training drops.
    dtype : dtype
        In which the layer computes and returns; its parameters are float32.
    """

    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features, shape ``(B, D)``; dropout acts if `train`."""
        check_image(x)
        x = nn.relu(nn.Conv(32, (3, 3), padding="VALID", dtype=self.dtype)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.Dropout(self.dropout_rate)(x, deterministic=not train)
        return x.reshape(x.shape[0], -1)


class CNNLastLayer(nn.Module):  # type: ignore[misc]
    """Two Dense layers with nothing between them, ``(B, D) -> (B, 128) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    """

    output_dim: int
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; `train` changes nothing here."""
        x = nn.Dense(128, dtype=self.dtype)(x)
        return nn.Dense(self.output_dim, dtype=self.dtype)(x)


class CNN(nn.Module):  # type: ignore[misc]
    """One convolution and two Dense layers, ``(B, height, width, channels) -> (B, output_dim)``.

    Fortuna's names, other than those of its other networks: "hidden_layers" and "last_layer".

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    dropout_rate : float
        The share of the convolution's outputs that training drops.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    """

    output_dim: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        check_rate(self.dropout_rate)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self.hidden_layers = CNNHiddenLayers(self.dropout_rate, self.dtype)
        self.last_layer = CNNLastLayer(self.output_dim, self.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; dropout acts if `train`."""
        return self.last_layer(self.hidden_layers(x, train), train)
