"""LeNet-5, for small images."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import check_image


class LeNet5DeepFeatureExtractorSubNet(nn.Module):  # type: ignore[misc]
    """Two convolutions and two Dense layers, ``(B, height, width, channels) -> (B, 84)``.

    Parameters
    ----------
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    """

    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features before their activation, shape ``(B, 84)``."""
        check_image(x)
        for features in (6, 16):
            x = nn.Conv(features, (5, 5), padding="VALID", dtype=self.dtype)(x)
            x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(120, dtype=self.dtype)(x.reshape(x.shape[0], -1)))
        return nn.Dense(84, dtype=self.dtype)(x)


class LeNet5OutputSubNet(nn.Module):  # type: ignore[misc]
    """A ReLU and the last Dense layer, ``(B, 84) -> (B, output_dim)``.

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
    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return nn.Dense(self.output_dim, dtype=self.dtype)(nn.relu(x))


class LeNet5(nn.Module):  # type: ignore[misc]
    """LeNet-5 with ReLU and max pooling, ``(B, height, width, channels) -> (B, output_dim)``.

    LeCun et al. (1998), Gradient-based learning applied to document recognition. Images are at
    least 16 x 16. The last layer is "output_subnet/Dense_0".

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    """

    output_dim: int
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self.dfe_subnet = LeNet5DeepFeatureExtractorSubNet(self.dtype)
        self.output_subnet = LeNet5OutputSubNet(self.output_dim, self.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; `train` changes nothing here."""
        return self.output_subnet(self.dfe_subnet(x))
