"""Blocks of a transformer: attention with optional LoRA, normalised before each part.

Vaswani et al. (2017), Attention is all you need; Hu et al. (2022), LoRA.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.model.attention import attend


class LoRA(nn.Module):  # type: ignore[misc]
    """A matrix of low rank as a product, ``x A B``, that starts at 0: ``(..., D) -> (..., C)``.

    The parameters are "lora_a", ``(D, rank)``, and "lora_b", ``(rank, C)``, which starts at 0.

    Parameters
    ----------
    rank : int
        The rank.
    features : int
        C.
    dtype : dtype
        In which it computes; its parameters are float32.
    """

    rank: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array) -> jax.Array:
        """The product, shape ``(..., C)``."""
        a = self.param("lora_a", nn.initializers.he_uniform(), (x.shape[-1], self.rank))
        b = self.param("lora_b", nn.initializers.zeros, (self.rank, self.features))
        return x.astype(self.dtype) @ a.astype(self.dtype) @ b.astype(self.dtype)


class Attention(nn.Module):  # type: ignore[misc]
    """Self-attention with the Dense layers "query", "key", "value" and "out".

    ``(B, T, D) -> (B, T, D)``. With LoRA a product of low rank is added to the query and the value.

    Parameters
    ----------
    num_heads : int
        How many heads share D.
    dropout_rate : float
        The share of attention weights that training drops.
    lora_rank : int
        The rank of LoRA's matrices, "query_lora" and "value_lora"; 0 for none.
    dtype : dtype
        In which the layers compute and return; their parameters are float32.
    """

    num_heads: int
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool = False) -> jax.Array:
        """Attended values, shape ``(B, T, D)``; no weight is on positions where `mask` is False."""
        width = x.shape[-1]
        query, key, value = (
            nn.Dense(width, dtype=self.dtype, name=name)(x) for name in ("query", "key", "value")
        )
        if self.lora_rank:
            query += LoRA(self.lora_rank, width, self.dtype, name="query_lora")(x)
            value += LoRA(self.lora_rank, width, self.dtype, name="value_lora")(x)
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")
        attended = attend(query, key, value, mask, self.num_heads, dropout)
        return nn.Dense(width, dtype=self.dtype, name="out")(attended)


class EncoderBlock(nn.Module):  # type: ignore[misc]
    """Attention and two Dense layers, each added to its inputs: ``(B, T, D) -> (B, T, D)``.

    Parameters
    ----------
    num_heads, lora_rank, dtype
        As for `Attention`.
    mlp_dim : int
        The width between the two Dense layers, "mlp_in" and "mlp_out", with a GELU.
    dropout_rate : float
        The share that training drops of attention weights and of what each part adds.
    """

    num_heads: int
    mlp_dim: int
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool = False) -> jax.Array:
        """The block's outputs, shape ``(B, T, D)``."""
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")
        y = nn.LayerNorm(dtype=self.dtype, name="norm_attention")(x)
        attention = Attention(
            self.num_heads, self.dropout_rate, self.lora_rank, self.dtype, name="attention"
        )
        x = x + dropout(attention(y, mask, train))
        y = nn.LayerNorm(dtype=self.dtype, name="norm_mlp")(x)
        y = nn.gelu(nn.Dense(self.mlp_dim, dtype=self.dtype, name="mlp_in")(y), approximate=False)
        return x + dropout(nn.Dense(x.shape[-1], dtype=self.dtype, name="mlp_out")(y))


class Encoder(nn.Module):  # type: ignore[misc]
    """Blocks "block_0", "block_1", ... and a last "norm": ``(B, T, D) -> (B, T, D)``.

    Parameters
    ----------
    depth : int
        How many blocks.
    num_heads, mlp_dim, dropout_rate, lora_rank, dtype
        As for `EncoderBlock`.
    """

    depth: int
    num_heads: int
    mlp_dim: int
    dropout_rate: float = 0.0
    lora_rank: int = 0
    dtype: Any = jnp.float32

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool = False) -> jax.Array:
        """Encoded positions, shape ``(B, T, D)``."""
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        for i in range(self.depth):
            x = EncoderBlock(
                self.num_heads,
                self.mlp_dim,
                self.dropout_rate,
                self.lora_rank,
                self.dtype,
                name=f"block_{i}",
            )(x, mask, train)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x)
