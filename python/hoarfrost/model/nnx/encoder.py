"""Blocks of a transformer in NNX: attention with optional LoRA, normalised before each part.

Vaswani et al. (2017), Attention is all you need; Hu et al. (2022), LoRA.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.model.attention import attend
from hoarfrost.model.nnx.layers import make_dropout, numbered, set_numbered


class Attention(nnx.Module):  # type: ignore[misc]
    """Self-attention with the Linear layers "query", "key", "value" and "out".

    ``(B, T, D) -> (B, T, D)``. With LoRA a product of low rank, two `flax.nnx.LoRAParam`, is added
    to the query and the value.

    Parameters
    ----------
    width : int
        D.
    num_heads : int
        How many heads share D.
    dropout_rate : float
        The share of attention weights that training drops.
    lora_rank : int
        The rank of LoRA's matrices, "query_lora" and "value_lora"; 0 for none.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_heads, self.lora_rank = num_heads, lora_rank
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        if lora_rank:
            self.query_lora = nnx.LoRA(width, lora_rank, width, dtype=dtype, rngs=rngs)
            self.value_lora = nnx.LoRA(width, lora_rank, width, dtype=dtype, rngs=rngs)
        self.dropout = make_dropout(dropout_rate, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Attended values, shape ``(B, T, D)``; no weight is on positions where `mask` is False."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.lora_rank:
            query, value = query + self.query_lora(x), value + self.value_lora(x)
        return self.out(attend(query, key, value, mask, self.num_heads, self.dropout))


class EncoderBlock(nnx.Module):  # type: ignore[misc]
    """Attention and two Linear layers, each added to its inputs: ``(B, T, D) -> (B, T, D)``.

    Parameters
    ----------
    width, num_heads, lora_rank, dtype, rngs
        As for `Attention`.
    mlp_dim : int
        The width between the two Linear layers, "mlp_in" and "mlp_out", with a GELU.
    dropout_rate : float
        The share that training drops of attention weights and of what each part adds.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.norm_attention = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, dropout_rate, lora_rank, dtype, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp_in = nnx.Linear(width, mlp_dim, dtype=dtype, rngs=rngs)
        self.mlp_out = nnx.Linear(mlp_dim, width, dtype=dtype, rngs=rngs)
        self.dropout = make_dropout(dropout_rate, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """The block's outputs, shape ``(B, T, D)``."""
        x = x + self.dropout(self.attention(self.norm_attention(x), mask))
        y = nnx.gelu(self.mlp_in(self.norm_mlp(x)), approximate=False)
        return x + self.dropout(self.mlp_out(y))


class Encoder(nnx.Module):  # type: ignore[misc]
    """Blocks "block_0", "block_1", ... and a last "norm": ``(B, T, D) -> (B, T, D)``.

    Parameters
    ----------
    width, num_heads, mlp_dim, dropout_rate, lora_rank, dtype, rngs
        As for `EncoderBlock`.
    depth : int
        How many blocks.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        dropout_rate: float = 0.0,
        lora_rank: int = 0,
        dtype: Any = jnp.float32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.depth = depth
        self.dropout = make_dropout(dropout_rate, rngs)
        blocks = [
            EncoderBlock(width, num_heads, mlp_dim, dropout_rate, lora_rank, dtype, rngs=rngs)
            for _ in range(depth)
        ]
        set_numbered(self, "block_", blocks)
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Encoded positions, shape ``(B, T, D)``."""
        x = self.dropout(x)
        for block in numbered(self, "block_", self.depth):
            x = block(x, mask)
        return self.norm(x)
