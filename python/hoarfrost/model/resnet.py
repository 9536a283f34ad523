"""Residual networks: ResNet18 to ResNet200.

He et al. (2016), Deep residual learning for image recognition; the stride of a bottleneck is in
its 3 x 3 convolution, and the last normalisation of each block starts at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import Activation, ModuleDef, check_image, check_stages
from hoarfrost.model.output import OutputSubNet
from hoarfrost.model.utils.spectral_norm import WithSpectralConv2DNorm, normalised

__all__ = [
    "BottleneckResNetBlock",
    "DeepFeatureExtractorSubNet",
    "OutputSubNet",
    "ResNet",
    "ResNet18",
    "ResNet18DeepFeatureExtractorSubNetWithSN",
    "ResNet34",
    "ResNet34DeepFeatureExtractorSubNetWithSN",
    "ResNet50",
    "ResNet50DeepFeatureExtractorSubNetWithSN",
    "ResNet101",
    "ResNet101DeepFeatureExtractorSubNetWithSN",
    "ResNet152",
    "ResNet152DeepFeatureExtractorSubNetWithSN",
    "ResNet200",
    "ResNet200DeepFeatureExtractorSubNetWithSN",
    "ResNetBlock",
    "ResNetDeepFeatureExtractorSubNetWithSN",
]

ONE = (1, 1)


class ResNetBlock(nn.Module):  # type: ignore[misc]
    """Two 3 x 3 convolutions added to their inputs, ``(B, h, w, C) -> (B, h', w', filters)``.

    Parameters
    ----------
    filters : int
        How many channels it gives.
    conv, norm : callable
        What makes its convolutions and normalisations.
    activation : callable
        The activation after each.
    strides : tuple of int
        Of the first convolution.
    """

    filters: int
    conv: ModuleDef
    norm: ModuleDef
    activation: Activation
    strides: tuple[int, int] = ONE

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's outputs, shape ``(B, h', w', filters)``."""
        y = self.conv(self.filters, (3, 3), self.strides)(x)
        y = self.activation(self.norm()(y))
        y = self.conv(self.filters, (3, 3))(y)
        return _added(self, x, self.norm(scale_init=nn.initializers.zeros)(y))


class BottleneckResNetBlock(nn.Module):  # type: ignore[misc]
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 added to their inputs.

    ``(B, h, w, C) -> (B, h', w', 4 filters)``.

    Parameters
    ----------
    filters : int
        How many channels its first convolutions have; the last has four times as many.
    conv, norm : callable
        What makes its convolutions and normalisations.
    activation : callable
        The activation after each.
    strides : tuple of int
        Of the 3 x 3 convolution.
    """

    filters: int
    conv: ModuleDef
    norm: ModuleDef
    activation: Activation
    strides: tuple[int, int] = ONE

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's outputs, shape ``(B, h', w', 4 filters)``."""
        y = self.activation(self.norm()(self.conv(self.filters, ONE)(x)))
        y = self.conv(self.filters, (3, 3), self.strides)(y)
        y = self.activation(self.norm()(y))
        y = self.conv(4 * self.filters, ONE)(y)
        return _added(self, x, self.norm(scale_init=nn.initializers.zeros)(y))


def _added(block: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Activation of `y` plus the block's inputs, which are projected where the shapes differ."""
    if x.shape != y.shape:
        x = block.conv(y.shape[-1], ONE, block.strides, name="conv_proj")(x)
        x = block.norm(name="norm_proj")(x)
    return block.activation(x + y)


class DeepFeatureExtractorSubNet(nn.Module):  # type: ignore[misc]
    """A residual network without its last layer, ``(B, height, width, channels) -> (B, D)``.

    Parameters
    ----------
    stage_sizes : sequence of int
        How many blocks each stage has; each stage after the first halves height and width and
        doubles the filters.
    block_cls : callable
        `ResNetBlock` or `BottleneckResNetBlock`.
    num_filters : int
        Of the first stage.
    dtype : dtype
        In which the layers compute and return; parameters and statistics are float32.
    activation : callable
        The activation.
    conv : callable
        The class of the convolutions.
    """

    stage_sizes: Sequence[int]
    block_cls: ModuleDef
    num_filters: int = 64
    dtype: Any = jnp.float32
    activation: Activation = nn.relu
    conv: ModuleDef = nn.Conv

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features, shape ``(B, D)``; BatchNorm takes the batch's statistics if `train`."""
        check_image(x)
        conv = partial(normalised(self, self.conv, train), use_bias=False, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        x = conv(self.num_filters, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], name="conv_init")(x)
        x = self.activation(norm(name="bn_init")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for stage, num_blocks in enumerate(self.stage_sizes):
            for i in range(num_blocks):
                x = self.block_cls(
                    self.num_filters * 2**stage,
                    conv=conv,
                    norm=norm,
                    activation=self.activation,
                    strides=(2, 2) if stage and not i else ONE,
                )(x)
        return jnp.mean(x, axis=(1, 2))


class ResNet(nn.Module):  # type: ignore[misc]
    """A residual network, ``(B, height, width, channels) -> (B, output_dim)``.

    All but the last layer is "dfe_subnet", the last layer "output_subnet/Dense_0".

    Parameters
    ----------
    stage_sizes : sequence of int
        How many blocks each stage has.
    block_cls : callable
        `ResNetBlock` or `BottleneckResNetBlock`.
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
    """

    stage_sizes: Sequence[int]
    block_cls: ModuleDef
    output_dim: int
    num_filters: int = 64
    dtype: Any = jnp.float32
    activation: Activation = nn.relu
    conv: ModuleDef = nn.Conv

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim, num_filters=self.num_filters)
        check_stages(self.stage_sizes)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self.dfe_subnet = DeepFeatureExtractorSubNet(
            stage_sizes=self.stage_sizes,
            block_cls=self.block_cls,
            num_filters=self.num_filters,
            dtype=self.dtype,
            activation=self.activation,
            conv=self.conv,
        )
        self.output_subnet = OutputSubNet(self.output_dim, self.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; BatchNorm takes the batch's statistics if `train`."""
        return self.output_subnet(self.dfe_subnet(x, train), train)


class ResNetDeepFeatureExtractorSubNetWithSN(WithSpectralConv2DNorm, DeepFeatureExtractorSubNet):
    """`DeepFeatureExtractorSubNet` with the norms of its convolutions bounded."""


_18, _34 = ((2, 2, 2, 2), ResNetBlock), ((3, 4, 6, 3), ResNetBlock)
_50, _101 = ((3, 4, 6, 3), BottleneckResNetBlock), ((3, 4, 23, 3), BottleneckResNetBlock)
_152, _200 = ((3, 8, 36, 3), BottleneckResNetBlock), ((3, 24, 36, 3), BottleneckResNetBlock)

ResNet18, ResNet34 = partial(ResNet, *_18), partial(ResNet, *_34)
ResNet50, ResNet101 = partial(ResNet, *_50), partial(ResNet, *_101)
ResNet152, ResNet200 = partial(ResNet, *_152), partial(ResNet, *_200)

_WithSN: Any = ResNetDeepFeatureExtractorSubNetWithSN
ResNet18DeepFeatureExtractorSubNetWithSN = partial(_WithSN, *_18)
ResNet34DeepFeatureExtractorSubNetWithSN = partial(_WithSN, *_34)
ResNet50DeepFeatureExtractorSubNetWithSN = partial(_WithSN, *_50)
ResNet101DeepFeatureExtractorSubNetWithSN = partial(_WithSN, *_101)
ResNet152DeepFeatureExtractorSubNetWithSN = partial(_WithSN, *_152)
ResNet200DeepFeatureExtractorSubNetWithSN = partial(_WithSN, *_200)
