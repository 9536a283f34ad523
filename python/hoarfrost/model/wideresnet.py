"""Wide residual networks, for images of about 32 x 32.

Zagoruyko and Komodakis (2016), Wide residual networks.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import Activation, ModuleDef, check_image, check_rate, check_wide
from hoarfrost.model.output import OutputSubNet
from hoarfrost.model.utils.spectral_norm import WithSpectralConv2DNorm, normalised

__all__ = [
    "DeepFeatureExtractorSubNet",
    "OutputSubNet",
    "WideResNet",
    "WideResNet16_4",
    "WideResNet28_10",
    "WideResNetD28W10DeepFeatureExtractorSubNetWithSN",
    "WideResNetDeepFeatureExtractorSubNetWithSN",
    "WideResnetBlock",
    "WideResnetGroup",
]

ONE = (1, 1)


class WideResnetBlock(nn.Module):  # type: ignore[misc]
    """Two normalised, activated 3 x 3 convolutions added to their inputs.

    ``(B, h, w, C) -> (B, h', w', filters)``; the inputs go through a convolution without
    normalisation where their channels or the strides ask for it.

    Parameters
    ----------
    conv, norm : callable
        What makes its convolutions and normalisations.
    activation : callable
        The activation before each convolution.
    filters : int
        How many channels it gives.
    strides : tuple of int
        Of the first convolution.
    dropout : callable
        The class of the dropout layer.
    dropout_rate : float
        The share of channels that training drops before each convolution.
    shortcut_size : tuple of int
        The window of the convolution that the inputs go through.
    """

    conv: ModuleDef
    norm: ModuleDef
    activation: Activation
    filters: int
    strides: tuple[int, int] = ONE
    dropout: ModuleDef = nn.Dropout
    dropout_rate: float = 0.0
    shortcut_size: tuple[int, int] = ONE

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """The block's outputs, shape ``(B, h', w', filters)``; dropout acts if `train`."""
        dropout = self.dropout(rate=self.dropout_rate, broadcast_dims=(1, 2))
        y = dropout(self.activation(self.norm(name="bn1")(x)), deterministic=not train)
        y = self.conv(self.filters, (3, 3), self.strides, name="conv1")(y)
        y = dropout(self.activation(self.norm(name="bn2")(y)), deterministic=not train)
        y = self.conv(self.filters, (3, 3), name="conv2")(y)
        if x.shape[-1] != self.filters or tuple(self.strides) != ONE:
            x = self.conv(self.filters, self.shortcut_size, self.strides)(x)
        return x + y


class WideResnetGroup(nn.Module):  # type: ignore[misc]
    """Blocks with the same filters, of which the first has the strides.

    ``(B, h, w, C) -> (B, h', w', filters)``.

    Parameters
    ----------
    conv, norm, activation, filters, strides, dropout, dropout_rate, shortcut_size
        As for `WideResnetBlock`.
    blocks_per_group : int
        How many blocks.
    """

    conv: ModuleDef
    norm: ModuleDef
    activation: Activation
    blocks_per_group: int
    filters: int
    strides: tuple[int, int] = ONE
    dropout: ModuleDef = nn.Dropout
    dropout_rate: float = 0.0
    shortcut_size: tuple[int, int] = ONE

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """The group's outputs, shape ``(B, h', w', filters)``; dropout acts if `train`."""
        for i in range(self.blocks_per_group):
            x = WideResnetBlock(
                conv=self.conv,
                norm=self.norm,
                activation=self.activation,
                filters=self.filters,
                strides=ONE if i else self.strides,
                dropout=self.dropout,
                dropout_rate=self.dropout_rate,
                shortcut_size=self.shortcut_size,
            )(x, train)
        return x


class DeepFeatureExtractorSubNet(nn.Module):  # type: ignore[misc]
    """A wide residual network without its last layer.

    ``(B, height, width, channels) -> (B, 64 widen_factor)``.

    Parameters
    ----------
    depth, widen_factor, dropout_rate, dtype, activation, conv, dropout, shortcut_size
        As for `WideResNet`.
    """

    depth: int = 28
    widen_factor: int = 10
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    activation: Activation = nn.relu
    conv: ModuleDef = nn.Conv
    dropout: ModuleDef = nn.Dropout
    shortcut_size: tuple[int, int] = ONE

    def __post_init__(self) -> None:
        check_wide(self.depth, self.widen_factor)
        check_rate(self.dropout_rate)
        super().__post_init__()

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features, shape ``(B, 64 widen_factor)``.

        If `train`, dropout acts and BatchNorm takes the batch's statistics.
        """
        check_image(x)
        conv = partial(normalised(self, self.conv, train), use_bias=False, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        x = conv(16, (3, 3), name="init_conv")(x)
        dropout = self.dropout(rate=self.dropout_rate, broadcast_dims=(1, 2))
        x = dropout(x, deterministic=not train)
        for stage in range(3):
            x = WideResnetGroup(
                conv=conv,
                norm=norm,
                activation=self.activation,
                blocks_per_group=(self.depth - 4) // 6,
                filters=16 * 2**stage * self.widen_factor,
                strides=(2, 2) if stage else ONE,
                dropout=self.dropout,
                dropout_rate=self.dropout_rate,
                shortcut_size=self.shortcut_size,
            )(x, train)
        return jnp.mean(self.activation(norm()(x)), axis=(1, 2))


class WideResNet(nn.Module):  # type: ignore[misc]
    """A wide residual network, ``(B, height, width, channels) -> (B, output_dim)``.

    All but the last layer is "dfe_subnet", the last layer "output_subnet/Dense_0".

    Parameters
    ----------
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
    conv, dropout : callable
        The classes of these layers.
    shortcut_size : tuple of int
        The window of the convolutions beside the blocks: ``(1, 1)`` as in the paper, ``(3, 3)`` for
        weights of Fortuna's network.

    Raises
    ------
    InvalidArgumentError
        If a size or the rate makes no sense.
    """

    output_dim: int
    depth: int = 28
    widen_factor: int = 10
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    activation: Activation = nn.relu
    conv: ModuleDef = nn.Conv
    dropout: ModuleDef = nn.Dropout
    shortcut_size: tuple[int, int] = ONE

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        check_wide(self.depth, self.widen_factor)
        check_rate(self.dropout_rate)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self.dfe_subnet = DeepFeatureExtractorSubNet(
            depth=self.depth,
            widen_factor=self.widen_factor,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            activation=self.activation,
            conv=self.conv,
            dropout=self.dropout,
            shortcut_size=self.shortcut_size,
        )
        self.output_subnet = OutputSubNet(self.output_dim, self.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``.

        If `train`, dropout acts and BatchNorm takes the batch's statistics.
        """
        return self.output_subnet(self.dfe_subnet(x, train), train)


class WideResNetDeepFeatureExtractorSubNetWithSN(
    WithSpectralConv2DNorm, DeepFeatureExtractorSubNet
):
    """`DeepFeatureExtractorSubNet` with the norms of its convolutions bounded."""


WideResNet16_4 = partial(WideResNet, depth=16, widen_factor=4)
WideResNet28_10 = partial(WideResNet, depth=28, widen_factor=10)
_WithSN: Any = WideResNetDeepFeatureExtractorSubNetWithSN
WideResNetD28W10DeepFeatureExtractorSubNetWithSN = partial(_WithSN, depth=28, widen_factor=10)
