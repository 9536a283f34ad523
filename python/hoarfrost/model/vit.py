"""Vision transformers.

Dosovitskiy et al. (2021), An image is worth 16 x 16 words.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import check_encoder, check_image, check_patches, check_rate
from hoarfrost.model.encoder import Encoder
from hoarfrost.model.output import OutputSubNet

POSITIONS = nn.initializers.normal(0.02)


class ViTDeepFeatureExtractorSubNet(nn.Module):  # type: ignore[misc]
    """A vision transformer without its last layer, ``(B, height, width, channels) -> (B, D)``.

    Parameters
    ----------
    patch_size, width, depth, num_heads, mlp_dim, dropout_rate, lora_rank, dtype
        As for `ViT`.
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int | None = None
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features of the class token, shape ``(B, D)``; dropout acts if `train`."""
        check_image(x)
        check_patches(x.shape[1], x.shape[2], self.patch_size)
        window = (self.patch_size, self.patch_size)
        x = nn.Conv(self.width, window, window, "VALID", dtype=self.dtype, name="patches")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        first = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
        first = jnp.broadcast_to(first, (x.shape[0], 1, self.width))
        x = jnp.concatenate([first.astype(x.dtype), x], axis=1)
        positions = self.param("positions", POSITIONS, (1, *x.shape[1:]))
        x = Encoder(
            self.depth,
            self.num_heads,
            self.mlp_dim or 4 * self.width,
            self.dropout_rate,
            self.lora_rank,
            self.dtype,
            name="encoder",
        )(x + positions.astype(x.dtype), None, train)
        return x[:, 0]


class ViT(nn.Module):  # type: ignore[misc]
    """A vision transformer with a class token, ``(B, height, width, channels) -> (B, output_dim)``.

    Learned positions, for the size of image that it was initialised with. All but the last layer is
    "dfe_subnet", the last layer "output_subnet/Dense_0".

    Parameters
    ----------
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
        The width between the two Dense layers of a block; None for 4 `width`.
    dropout_rate : float
        The share that training drops of attention weights and of what each part of a block adds.
    lora_rank : int
        The rank of the matrices that LoRA adds to query and value; 0 for none.
    dtype : dtype
        In which the layers compute and return; parameters are float32.

    Raises
    ------
    InvalidArgumentError
        If a size or the rate makes no sense.
    ShapeError
        If patches do not tile the images.
    """

    output_dim: int
    patch_size: int = 4
    width: int = 64
    depth: int = 4
    num_heads: int = 4
    mlp_dim: int | None = None
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim, patch_size=self.patch_size)
        check_encoder(self.width, self.depth, self.num_heads, self.mlp_dim, self.lora_rank)
        check_rate(self.dropout_rate)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self.dfe_subnet = ViTDeepFeatureExtractorSubNet(
            patch_size=self.patch_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            dropout_rate=self.dropout_rate,
            lora_rank=self.lora_rank,
            dtype=self.dtype,
        )
        self.output_subnet = OutputSubNet(self.output_dim, self.dtype)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; dropout acts if `train`."""
        return self.output_subnet(self.dfe_subnet(x, train), train)


ViTTi16 = partial(ViT, patch_size=16, width=192, depth=12, num_heads=3)
ViTS16 = partial(ViT, patch_size=16, width=384, depth=12, num_heads=6)
ViTB16 = partial(ViT, patch_size=16, width=768, depth=12, num_heads=12)
