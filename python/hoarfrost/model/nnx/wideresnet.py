"""Wide residual networks in NNX, for images of about 32 x 32.

Zagoruyko and Komodakis (2016), Wide residual networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.model.arguments import (
    Activation,
    ModuleDef,
    check_image,
    check_rate,
    check_shape,
    check_wide,
)
from hoarfrost.model.nnx.layers import OutputSubNet, make_dropout, numbered, set_numbered

ONE = (1, 1)


class WideResnetBlock(nnx.Module):  # type: ignore[misc]
    """Two normalised, activated 3 x 3 convolutions added to their inputs.

    ``(B, h, w, C) -> (B, h', w', filters)``; the inputs go through a convolution without
    normalisation where their channels or the strides ask for it.

    Parameters
    ----------
    channels : int
        C.
    filters : int
        How many channels it gives.
    conv, norm : callable
        What makes its convolutions and normalisations.
    activation : callable
        The activation before each convolution.
    strides : tuple of int
        Of the first convolution.
    dropout_rate : float
        The share of channels that training drops before each convolution.
    shortcut_size : tuple of int
        The window of the convolution that the inputs go through.
    rngs : flax.nnx.Rngs
        Where dropout comes from.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        conv: ModuleDef,
        norm: ModuleDef,
        activation: Activation,
        strides: tuple[int, int] = ONE,
        dropout_rate: float = 0.0,
        shortcut_size: tuple[int, int] = ONE,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.activation = activation
        self.bn1 = norm(channels)
        self.conv1 = conv(channels, filters, (3, 3), strides)
        self.bn2 = norm(filters)
        self.conv2 = conv(filters, filters, (3, 3))
        self.projects = channels != filters or tuple(strides) != ONE
        if self.projects:
            self.Conv_0 = conv(channels, filters, shortcut_size, strides)
        self.dropout = make_dropout(dropout_rate, rngs, broadcast_dims=(1, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's outputs, shape ``(B, h', w', filters)``."""
        y = self.conv1(self.dropout(self.activation(self.bn1(x))))
        y = self.conv2(self.dropout(self.activation(self.bn2(y))))
        return (self.Conv_0(x) if self.projects else x) + y


class WideResnetGroup(nnx.Module):  # type: ignore[misc]
    """Blocks with the same filters, ``(B, h, w, C) -> (B, h', w', filters)``.

    Parameters
    ----------
    channels : int
        C.
    filters : int
        How many channels it gives.
    num_blocks : int
        How many blocks.
    strides : tuple of int
        Of the first block.
    block : callable
        What makes a block of its channels, filters and strides.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        num_blocks: int,
        strides: tuple[int, int],
        block: ModuleDef,
    ) -> None:
        self.depth = num_blocks
        later = [block(filters, filters, strides=ONE) for _ in range(num_blocks - 1)]
        blocks = [block(channels, filters, strides=strides), *later]
        set_numbered(self, "WideResnetBlock_", blocks)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The group's outputs, shape ``(B, h', w', filters)``."""
        for block in numbered(self, "WideResnetBlock_", self.depth):
            x = block(x)
        return x


class DeepFeatureExtractorSubNet(nnx.Module):  # type: ignore[misc]
    """A wide residual network without its last layer.

    ``(B, height, width, channels) -> (B, 64 widen_factor)``.

    Parameters
    ----------
    channels : int
        Of the images.
    depth, widen_factor, dropout_rate, dtype, activation, conv, shortcut_size, rngs
        As for `WideResNet`.
    """

    def __init__(
        self,
        channels: int,
        depth: int = 28,
        widen_factor: int = 10,
        dropout_rate: float = 0.0,
        dtype: Any = jnp.float32,
        activation: Activation = nnx.relu,
        conv: ModuleDef = nnx.Conv,
        shortcut_size: tuple[int, int] = ONE,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.activation = activation
        convolution = partial(conv, use_bias=False, dtype=dtype, rngs=rngs)
        norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)
        block = partial(
            WideResnetBlock,
            conv=convolution,
            norm=norm,
            activation=activation,
            dropout_rate=dropout_rate,
            shortcut_size=shortcut_size,
            rngs=rngs,
        )
        self.init_conv = convolution(channels, 16, (3, 3))
        self.dropout = make_dropout(dropout_rate, rngs, broadcast_dims=(1, 2))
        num_blocks, width = (depth - 4) // 6, 16
        for stage in range(3):
            filters = 16 * 2**stage * widen_factor
            group = WideResnetGroup(width, filters, num_blocks, (2, 2) if stage else ONE, block)
            setattr(self, f"WideResnetGroup_{stage}", group)
            width = filters
        self.BatchNorm_0 = norm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features, shape ``(B, 64 widen_factor)``."""
        check_image(x)
        x = self.dropout(self.init_conv(x))
        for group in numbered(self, "WideResnetGroup_", 3):
            x = group(x)
        return jnp.mean(self.activation(self.BatchNorm_0(x)), axis=(1, 2))


class WideResNet(nnx.Module):  # type: ignore[misc]
    """A wide residual network, ``(B, height, width, channels) -> (B, output_dim)``.

    All but the last layer is "dfe_subnet", the last layer "output_subnet/Dense_0".

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, channels)``; any height and width will do later.
    output_dim : int
        How many outputs a point has.
    depth : int
        How many layers, ``6 n + 4``.
    widen_factor : int
        By which the filters 16, 32 and 64 of the three groups are multiplied.
    dropout_rate : float
        The share of channels that training drops before each convolution.
    dtype : dtype
        In which the layers compute and return; parameters and statistics are float32.
    activation : callable
        The activation.
    conv : callable
        The class of the convolutions.
    shortcut_size : tuple of int
        The window of the convolutions beside the blocks: ``(1, 1)`` as in the paper, ``(3, 3)`` for
        weights of Fortuna's network.
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
        depth: int = 28,
        widen_factor: int = 10,
        dropout_rate: float = 0.0,
        dtype: Any = jnp.float32,
        activation: Activation = nnx.relu,
        conv: ModuleDef = nnx.Conv,
        shortcut_size: tuple[int, int] = ONE,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_wide(depth, widen_factor)
        check_rate(dropout_rate)
        self.dfe_subnet = DeepFeatureExtractorSubNet(
            check_shape(input_shape, 3, "(height, width, channels)")[-1],
            depth,
            widen_factor,
            dropout_rate,
            dtype,
            activation,
            conv,
            shortcut_size,
            rngs=rngs,
        )
        self.output_subnet = OutputSubNet(64 * widen_factor, output_dim, dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.output_subnet(self.dfe_subnet(x))


WideResNet16_4 = partial(WideResNet, depth=16, widen_factor=4)
WideResNet28_10 = partial(WideResNet, depth=28, widen_factor=10)
