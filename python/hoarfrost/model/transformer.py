"""A transformer encoder of token ids."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import check_encoder, check_pad_id, check_pool, check_rate
from hoarfrost.model.attention import pooled
from hoarfrost.model.encoder import Encoder
from hoarfrost.model.output import OutputSubNet
from hoarfrost.model.tokens import ids_and_mask

EMBEDDING = nn.initializers.normal(0.02)


class TransformerDeepFeatureExtractorSubNet(nn.Module):  # type: ignore[misc]
    """A transformer encoder without its last layer, token ids to ``(B, D)`` or ``(B, T, D)``.

    Parameters
    ----------
    vocab_size, max_length, width, depth, num_heads, mlp_dim, pool, pad_id, dropout_rate, lora_rank
        As for `TransformerEncoder`.
    dtype : dtype
        In which the layers compute and return; parameters are float32.
    """

    vocab_size: int
    max_length: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int | None = None
    pool: str = "mean"
    pad_id: int | None = None
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: Any, train: bool = False) -> jax.Array:
        """Features, shape ``(B, D)`` or ``(B, T, D)``; dropout acts if `train`."""
        ids, mask = ids_and_mask(x, self.pad_id, self.max_length)
        x = nn.Embed(
            self.vocab_size,
            self.width,
            dtype=self.dtype,
            embedding_init=EMBEDDING,
            name="tokens",
        )(ids)
        positions = self.param("positions", EMBEDDING, (self.max_length, self.width))
        positions = positions[None, : ids.shape[1]].astype(x.dtype)
        x = Encoder(
            self.depth,
            self.num_heads,
            self.mlp_dim or 4 * self.width,
            self.dropout_rate,
            self.lora_rank,
            self.dtype,
            name="encoder",
        )(x + positions, mask, train)
        return pooled(x, mask, self.pool)


class TransformerEncoder(nn.Module):  # type: ignore[misc]
    """A transformer encoder, token ids ``(B, T)`` to ``(B, output_dim)``.

    Inputs are ids, ``(ids, mask)`` or ``{"input_ids": ids, "attention_mask": mask}``; tokens that
    the mask leaves out change no output. Learned positions. All but the last layer is "dfe_subnet",
    the last layer "output_subnet/Dense_0".

    Parameters
    ----------
    output_dim : int
        How many outputs a sequence, or a token, has.
    vocab_size : int
        How many token ids there are.
    max_length : int
        The longest sequence.
    width : int
        D, how many features a token has; a multiple of `num_heads`.
    depth : int
        How many blocks.
    num_heads : int
        How many heads of attention a block has.
    mlp_dim : int or None
        The width between the two Dense layers of a block; None for 4 `width`.
    pool : str
        What the last layer sees: "mean" of the tokens that count, the "first" token, or all
        "tokens", for outputs ``(B, T, output_dim)``.
    pad_id : int or None
        Where inputs have no mask, the id of tokens that do not count.
    dropout_rate : float
        The share that training drops of attention weights and of what each part of a block adds.
    lora_rank : int
        The rank of the matrices that LoRA adds to query and value; 0 for none.
    dtype : dtype
        In which the layers compute and return; parameters are float32.

    Raises
    ------
    InvalidArgumentError
        If a size, the rate, `pool` or the inputs make no sense.
    ShapeError
        If a sequence is too long or its mask is shaped otherwise.
    """

    output_dim: int
    vocab_size: int
    max_length: int = 128
    width: int = 64
    depth: int = 2
    num_heads: int = 4
    mlp_dim: int | None = None
    pool: str = "mean"
    pad_id: int | None = None
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_counts(
            output_dim=self.output_dim, vocab_size=self.vocab_size, max_length=self.max_length
        )
        check_encoder(self.width, self.depth, self.num_heads, self.mlp_dim, self.lora_rank)
        check_pool(self.pool)
        check_pad_id(self.pad_id)
        check_rate(self.dropout_rate)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self.dfe_subnet = TransformerDeepFeatureExtractorSubNet(
            vocab_size=self.vocab_size,
            max_length=self.max_length,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            pool=self.pool,
            pad_id=self.pad_id,
            dropout_rate=self.dropout_rate,
            lora_rank=self.lora_rank,
            dtype=self.dtype,
        )
        self.output_subnet = OutputSubNet(self.output_dim, self.dtype)

    def __call__(self, x: Any, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)`` or ``(B, T, output_dim)``; dropout acts if `train`."""
        return self.output_subnet(self.dfe_subnet(x, train), train)
