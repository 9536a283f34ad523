"""Vision transformers in NNX.

Dosovitskiy et al. (2021), An image is worth 16 x 16 words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.errors import ShapeError
from hoarfrost.model.arguments import (
    check_encoder,
    check_image,
    check_patches,
    check_rate,
    check_shape,
)
from hoarfrost.model.nnx.encoder import Encoder
from hoarfrost.model.nnx.layers import OutputSubNet

POSITIONS = nnx.initializers.normal(0.02)


class ViTDeepFeatureExtractorSubNet(nnx.Module):  # type: ignore[misc]
    """A vision transformer without its last layer, ``(B, height, width, channels) -> (B, D)``.

    Parameters
    ----------
    input_shape, patch_size, width, depth, num_heads, mlp_dim, dropout_rate, lora_rank, dtype, rngs
        As for `ViT`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int | None = None,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        rows, columns, channels = input_shape
        check_patches(rows, columns, patch_size)
        self.input_shape, self.width = (rows, columns, channels), width
        window = (patch_size, patch_size)
        self.patches = nnx.Conv(
            channels, width, window, window, padding="VALID", dtype=dtype, rngs=rngs
        )
        self.class_token = nnx.Param(jnp.zeros((1, 1, width)))
        tokens = 1 + (rows // patch_size) * (columns // patch_size)
        self.positions = nnx.Param(POSITIONS(rngs.params(), (1, tokens, width)))
        self.encoder = Encoder(
            width,
            depth,
            num_heads,
            mlp_dim or 4 * width,
            dropout_rate,
            lora_rank,
            dtype,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features of the class token, shape ``(B, D)``."""
        check_image(x)
        if x.shape[1:] != self.input_shape:
            raise ShapeError(
                f"the images have shape {x.shape[1:]}, and the network is for {self.input_shape}"
            )
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, self.width)
        first = jnp.broadcast_to(self.class_token[...], (x.shape[0], 1, self.width))
        x = jnp.concatenate([first.astype(x.dtype), x], axis=1)
        return self.encoder(x + self.positions[...].astype(x.dtype), None)[:, 0]


class ViT(nnx.Module):  # type: ignore[misc]
    """A vision transformer with a class token, ``(B, height, width, channels) -> (B, output_dim)``.

    Learned positions. All but the last layer is "dfe_subnet", the last layer
    "output_subnet/Dense_0".

    Parameters
    ----------
    input_shape : sequence of int
        ``(height, width, channels)``.
    output_dim : int
        How many outputs a point has.
    patch_size : int
        Height and width of a patch; those of the images are multiples of it.
    width : int
        D, how many features a token has; a multiple of `num_heads`.
    depth : int
        How many blocks.
    num_heads : int
        How many heads of attention a block has.
    mlp_dim : int or None
        The width between the two Linear layers of a block; None for 4 `width`.
    dropout_rate : float
        The share that training drops of attention weights and of what each part of a block adds.
    lora_rank : int
        The rank of the matrices that LoRA adds to query and value; 0 for none.
    dtype : dtype
        In which the layers compute and return; parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.

    Raises
    ------
    InvalidArgumentError
        If a size or the rate makes no sense.
    ShapeError
        If patches do not tile the images, or images have another shape than `input_shape`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        patch_size: int = 4,
        width: int = 64,
        depth: int = 4,
        num_heads: int = 4,
        mlp_dim: int | None = None,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim, patch_size=patch_size)
        check_encoder(width, depth, num_heads, mlp_dim, lora_rank)
        check_rate(dropout_rate)
        self.dfe_subnet = ViTDeepFeatureExtractorSubNet(
            check_shape(input_shape, 3, "(height, width, channels)"),
            patch_size,
            width,
            depth,
            num_heads,
            mlp_dim,
            dropout_rate,
            lora_rank,
            dtype,
            rngs=rngs,
        )
        self.output_subnet = OutputSubNet(width, output_dim, dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.output_subnet(self.dfe_subnet(x))


ViTTi16 = partial(ViT, patch_size=16, width=192, depth=12, num_heads=3)
ViTS16 = partial(ViT, patch_size=16, width=384, depth=12, num_heads=6)
ViTB16 = partial(ViT, patch_size=16, width=768, depth=12, num_heads=12)
