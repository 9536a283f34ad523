"""LeNet-5 in NNX, for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.model.arguments import check_image, check_shape


class LeNet5DeepFeatureExtractorSubNet(nnx.Module):  # type: ignore[misc]
    """Two convolutions and two Linear layers, ``(B, height, width, channels) -> (B, 84)``.

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, channels)``.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self, input_shape: Sequence[int], dtype: Any = jnp.float32, *, rngs: nnx.Rngs
    ) -> None:
        height, width, channels = input_shape
        layer = {"kernel_size": (5, 5), "padding": "VALID", "dtype": dtype, "rngs": rngs}
        self.Conv_0 = nnx.Conv(channels, 6, **layer)
        self.Conv_1 = nnx.Conv(6, 16, **layer)
        size = 16 * _after(height) * _after(width)
        self.Dense_0 = nnx.Linear(size, 120, dtype=dtype, rngs=rngs)
        self.Dense_1 = nnx.Linear(120, 84, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features before their activation, shape ``(B, 84)``."""
        check_image(x)
        for convolution in (self.Conv_0, self.Conv_1):
            x = nnx.max_pool(nnx.relu(convolution(x)), (2, 2), strides=(2, 2))
        return self.Dense_1(nnx.relu(self.Dense_0(x.reshape(x.shape[0], -1))))


class LeNet5OutputSubNet(nnx.Module):  # type: ignore[misc]
    """A ReLU and the last Linear layer, ``(B, 84) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layer computes and returns; its parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(self, output_dim: int, dtype: Any = jnp.float32, *, rngs: nnx.Rngs) -> None:
        self.Dense_0 = nnx.Linear(84, output_dim, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.Dense_0(nnx.relu(x))


class LeNet5(nnx.Module):  # type: ignore[misc]
    """LeNet-5 with ReLU and max pooling, ``(B, height, width, channels) -> (B, output_dim)``.

    LeCun et al. (1998), Gradient-based learning applied to document recognition. The last layer is
    "output_subnet/Dense_0".

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, channels)``, at least 16 x 16.
    output_dim : int
        How many outputs a point has.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values come from.

    Raises
    ------
    InvalidArgumentError
        If a size makes no sense.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim)
        shape = check_shape(input_shape, 3, "(height, width, channels)")
        if min(_after(shape[0]), _after(shape[1])) < 1:
            raise InvalidArgumentError(
                f"input_shape is {shape}; LeNet5 takes images of at least 16 x 16"
            )
        self.dfe_subnet = LeNet5DeepFeatureExtractorSubNet(shape, dtype, rngs=rngs)
        self.output_subnet = LeNet5OutputSubNet(output_dim, dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.output_subnet(self.dfe_subnet(x))


def _after(size: int) -> int:
    """What two convolutions with pooling leave of a side."""
    return ((size - 4) // 2 - 4) // 2
