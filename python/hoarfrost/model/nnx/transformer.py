"""A transformer encoder of token ids in NNX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import check_encoder, check_pad_id, check_pool, check_rate
from hoarfrost.model.attention import pooled
from hoarfrost.model.nnx.encoder import Encoder
from hoarfrost.model.nnx.layers import OutputSubNet
from hoarfrost.model.tokens import ids_and_mask

EMBEDDING = nnx.initializers.normal(0.02)


class TransformerDeepFeatureExtractorSubNet(nnx.Module):  # type: ignore[misc]
    """A transformer encoder without its last layer, token ids to ``(B, D)`` or ``(B, T, D)``.

    Parameters
    ----------
    vocab_size, max_length, width, depth, num_heads, mlp_dim, pool, pad_id, dropout_rate, lora_rank
        As for `TransformerEncoder`.
    dtype : dtype
        In which the layers compute and return; parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int | None = None,
        pool: str = "mean",
        pad_id: int | None = None,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.max_length, self.pool, self.pad_id = max_length, pool, pad_id
        self.tokens = nnx.Embed(vocab_size, width, dtype=dtype, embedding_init=EMBEDDING, rngs=rngs)
        self.positions = nnx.Param(EMBEDDING(rngs.params(), (max_length, width)))
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

    def __call__(self, x: Any) -> jax.Array:
        """Features, shape ``(B, D)`` or ``(B, T, D)``."""
        ids, mask = ids_and_mask(x, self.pad_id, self.max_length)
        x = self.tokens(ids)
        positions = self.positions[...][None, : ids.shape[1]].astype(x.dtype)
        return pooled(self.encoder(x + positions, mask), mask, self.pool)


class TransformerEncoder(nnx.Module):  # type: ignore[misc]
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
        The width between the two Linear layers of a block; None for 4 `width`.
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
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.

    Raises
    ------
    InvalidArgumentError
        If a size, the rate, `pool` or the inputs make no sense.
    ShapeError
        If a sequence is too long or its mask is shaped otherwise.
    """

    def __init__(
        self,
        output_dim: int,
        vocab_size: int,
        max_length: int = 128,
        width: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        mlp_dim: int | None = None,
        pool: str = "mean",
        pad_id: int | None = None,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim, vocab_size=vocab_size, max_length=max_length)
        check_encoder(width, depth, num_heads, mlp_dim, lora_rank)
        check_pool(pool)
        check_pad_id(pad_id)
        check_rate(dropout_rate)
        self.dfe_subnet = TransformerDeepFeatureExtractorSubNet(
            vocab_size,
            max_length,
            width,
            depth,
            num_heads,
            mlp_dim,
            pool,
            pad_id,
            dropout_rate,
            lora_rank,
            dtype,
            rngs=rngs,
        )
        self.output_subnet = OutputSubNet(width, output_dim, dtype, rngs=rngs)

    def __call__(self, x: Any) -> jax.Array:
        """Outputs, shape ``(B, output_dim)`` or ``(B, T, output_dim)``."""
        return self.output_subnet(self.dfe_subnet(x))
