"""Residual networks in NNX: ResNet18 to ResNet200.

He et al. (2016), Deep residual learning for image recognition; the stride of a bottleneck is in
its 3 x 3 convolution, and the last normalisation of each block starts at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import Activation, ModuleDef, check_image, check_shape, check_stages
from hoarfrost.model.nnx.layers import OutputSubNet, numbered, set_numbered

ONE = (1, 1)


class _Block(nnx.Module):  # type: ignore[misc]
    """Convolutions with normalisation, added to their inputs."""

    def _set(
        self,
        channels: int,
        layers: Sequence[tuple[int, tuple[int, int], tuple[int, int]]],
        conv: ModuleDef,
        norm: ModuleDef,
        activation: Activation,
    ) -> None:
        """Make the layers, each given by its filters, window and strides."""
        self.activation = activation
        self.depth = len(layers)
        sizes = [channels, *(filters for filters, _, _ in layers)]
        set_numbered(
            self, "Conv_", [conv(n, *layer) for n, layer in zip(sizes, layers, strict=False)]
        )
        starts = [nnx.initializers.ones] * (len(layers) - 1) + [nnx.initializers.zeros]
        set_numbered(
            self,
            "BatchNorm_",
            [norm(n, scale_init=start) for n, start in zip(sizes[1:], starts, strict=True)],
        )
        strides = max(strides for _, _, strides in layers)
        self.projects = sizes[-1] != channels or strides != ONE
        if self.projects:
            self.conv_proj = conv(channels, sizes[-1], ONE, strides)
            self.norm_proj = norm(sizes[-1])

    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's outputs, ``(B, h, w, C) -> (B, h', w', C')``."""
        y = x
        convolutions = numbered(self, "Conv_", self.depth)
        norms = numbered(self, "BatchNorm_", self.depth)
        for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True), start=1):
            y = norm(convolution(y))
            y = self.activation(y) if i < self.depth else y
        if self.projects:
            x = self.norm_proj(self.conv_proj(x))
        return self.activation(x + y)


class ResNetBlock(_Block):
    """Two 3 x 3 convolutions added to their inputs, ``(B, h, w, C) -> (B, h', w', filters)``.

    Parameters
    ----------
    channels : int
        C.
    filters : int
        How many channels it gives, ``growth`` times this: `growth` is 1.
    conv, norm : callable
        What makes its convolutions and normalisations.
    activation : callable
        The activation after each.
    strides : tuple of int
        Of the first convolution.
    """

    growth = 1

    def __init__(
        self,
        channels: int,
        filters: int,
        conv: ModuleDef,
        norm: ModuleDef,
        activation: Activation,
        strides: tuple[int, int] = ONE,
    ) -> None:
        layers = [(filters, (3, 3), strides), (filters, (3, 3), ONE)]
        self._set(channels, layers, conv, norm, activation)


class BottleneckResNetBlock(_Block):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 added to their inputs.

    ``(B, h, w, C) -> (B, h', w', 4 filters)``.

    Parameters
    ----------
    channels : int
        C.
    filters : int
        How many channels its first convolutions have; the last has `growth`, 4, times as many.
    conv, norm : callable
        What makes its convolutions and normalisations.
    activation : callable
        The activation after each.
    strides : tuple of int
        Of the 3 x 3 convolution.
    """

    growth = 4

    def __init__(
        self,
        channels: int,
        filters: int,
        conv: ModuleDef,
        norm: ModuleDef,
        activation: Activation,
        strides: tuple[int, int] = ONE,
    ) -> None:
        layers = [(filters, ONE, ONE), (filters, (3, 3), strides), (4 * filters, ONE, ONE)]
        self._set(channels, layers, conv, norm, activation)


class DeepFeatureExtractorSubNet(nnx.Module):  # type: ignore[misc]
    """A residual network without its last layer, ``(B, height, width, channels) -> (B, D)``.

    Parameters
    ----------
    channels : int
        Of the images.
    stage_sizes : sequence of int
        How many blocks each stage has; each stage after the first halves height and width and
        doubles the filters.
    block_cls : type
        `ResNetBlock` or `BottleneckResNetBlock`.
    num_filters : int
        Of the first stage.
    dtype : dtype
        In which the layers compute and return; parameters and statistics are float32.
    activation : callable
        The activation.
    conv : callable
        The class of the convolutions.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self,
        channels: int,
        stage_sizes: Sequence[int],
        block_cls: Any,
        num_filters: int = 64,
        dtype: Any = jnp.float32,
        activation: Activation = nnx.relu,
        conv: ModuleDef = nnx.Conv,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.activation = activation
        convolution = partial(conv, use_bias=False, dtype=dtype, rngs=rngs)
        norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)
        padding = [(3, 3), (3, 3)]
        self.conv_init = convolution(channels, num_filters, (7, 7), (2, 2), padding=padding)
        self.bn_init = norm(num_filters)
        blocks, width = [], num_filters
        for stage, num_blocks in enumerate(stage_sizes):
            for i in range(num_blocks):
                filters = num_filters * 2**stage
                strides = (2, 2) if stage and not i else ONE
                blocks.append(block_cls(width, filters, convolution, norm, activation, strides))
                width = filters * block_cls.growth
        self.block_name, self.depth, self.width = f"{block_cls.__name__}_", len(blocks), width
        set_numbered(self, self.block_name, blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features, shape ``(B, D)``."""
        check_image(x)
        x = self.activation(self.bn_init(self.conv_init(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for block in numbered(self, self.block_name, self.depth):
            x = block(x)
        return jnp.mean(x, axis=(1, 2))


class ResNet(nnx.Module):  # type: ignore[misc]
    """A residual network, ``(B, height, width, channels) -> (B, output_dim)``.

    All but the last layer is "dfe_subnet", the last layer "output_subnet/Dense_0".

    Parameters
    ----------
    stage_sizes : sequence of int
        How many blocks each stage has.
    block_cls : type
        `ResNetBlock` or `BottleneckResNetBlock`.
    input_shape : sequence of int
        ``(height, width, channels)``; any height and width will do later.
    output_dim : int
        How many outputs a point has.
    num_filters : int
        Of the first stage; each further stage doubles them.
    dtype : dtype
        In which the layers compute and return; parameters and statistics are float32.
    activation : callable
        The activation.
    conv : callable
        The class of the convolutions.
    rngs : flax.nnx.Rngs
        Where initial values come from.

    Raises
    ------
    InvalidArgumentError
        If a size makes no sense.
    """

    def __init__(
        self,
        stage_sizes: Sequence[int],
        block_cls: Any,
        input_shape: Sequence[int],
        output_dim: int,
        num_filters: int = 64,
        dtype: Any = jnp.float32,
        activation: Activation = nnx.relu,
        conv: ModuleDef = nnx.Conv,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim, num_filters=num_filters)
        check_stages(stage_sizes)
        channels = check_shape(input_shape, 3, "(height, width, channels)")[-1]
        self.dfe_subnet = DeepFeatureExtractorSubNet(
            channels, stage_sizes, block_cls, num_filters, dtype, activation, conv, rngs=rngs
        )
        self.output_subnet = OutputSubNet(self.dfe_subnet.width, output_dim, dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.output_subnet(self.dfe_subnet(x))


ResNet18 = partial(ResNet, (2, 2, 2, 2), ResNetBlock)
ResNet34 = partial(ResNet, (3, 4, 6, 3), ResNetBlock)
ResNet50 = partial(ResNet, (3, 4, 6, 3), BottleneckResNetBlock)
ResNet101 = partial(ResNet, (3, 4, 23, 3), BottleneckResNetBlock)
ResNet152 = partial(ResNet, (3, 8, 36, 3), BottleneckResNetBlock)
ResNet200 = partial(ResNet, (3, 24, 36, 3), BottleneckResNetBlock)
