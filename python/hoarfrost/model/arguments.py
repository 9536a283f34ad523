"""Checks of the arguments that networks share; they raise before a network is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_count, check_counts, is_choice, is_number, is_whole, shown
from hoarfrost.errors import InvalidArgumentError, ShapeError

Activation = Callable[[jax.Array], jax.Array]
# A class of layers, or a function that makes one.
ModuleDef = Callable[..., Any]
POOLS = ("mean", "first", "tokens")


def check_rate(dropout_rate: Any) -> None:
    """Raise unless the share of units that are dropped is at least 0 and below 1."""
    long = isinstance(dropout_rate, np.longdouble)  # which JAX does not have
    if not is_number(dropout_rate) or long or not 0 <= dropout_rate < 1:
        raise InvalidArgumentError(
            f"dropout_rate is {shown(dropout_rate)}; give a number of at least 0 and below 1"
        )


def check_widths(widths: Any, activations: Any) -> None:
    """Raise unless there is at least one hidden layer, and one activation for each."""
    if not isinstance(widths, Sequence) or not widths or not all(is_whole(w, 1) for w in widths):
        raise InvalidArgumentError(f"widths is {widths!r}; give a tuple of positive integers")
    if not isinstance(activations, Sequence) or not all(map(callable, activations)):
        raise InvalidArgumentError(f"activations is {activations!r}; give a tuple of functions")
    if len(widths) != len(activations):
        raise InvalidArgumentError(
            f"widths has {len(widths)} entries and activations has {len(activations)}; give one "
            "activation for each hidden layer"
        )


def check_stages(stage_sizes: Any) -> None:
    """Raise unless there is at least one stage, and each has at least one block."""
    sizes = isinstance(stage_sizes, Sequence) and not isinstance(stage_sizes, str | bytes)
    if not sizes or not stage_sizes or not all(is_whole(size, 1) for size in stage_sizes):
        raise InvalidArgumentError(
            f"stage_sizes is {shown(stage_sizes)}; give a tuple of positive integers, the number "
            "of blocks of each stage"
        )


def check_equal_widths(widths: Sequence[int]) -> None:
    """Raise unless all hidden layers are equally wide, as their sum must have a shape."""
    if len(set(widths)) > 1:
        raise InvalidArgumentError(
            f"widths is {tuple(widths)!r}; the hidden layers of a residual network are added, and "
            "must all have the same width"
        )


def check_wide(depth: Any, widen_factor: Any) -> None:
    """Raise unless a wide residual network of that depth has whole blocks."""
    check_counts(widen_factor=widen_factor)
    # A layer is made at a time: of a depth beyond this one there would be no end.
    if not is_whole(depth, 10) or depth > 10_000 or (depth - 4) % 6:
        raise InvalidArgumentError(
            f"depth is {shown(depth)}; give 6 n + 4 with a whole n of at least 1, as 16, 22 or 28, "
            "and at most 10,000"
        )


def check_encoder(width: Any, depth: Any, num_heads: Any, mlp_dim: Any, lora_rank: Any) -> None:
    """Raise unless the sizes of a transformer fit together."""
    check_counts(width=width, depth=depth, num_heads=num_heads)
    if mlp_dim is not None:
        check_counts(mlp_dim=mlp_dim)
    if width % num_heads:
        raise InvalidArgumentError(
            f"width is {width} and num_heads is {num_heads}; width must be a multiple of num_heads"
        )
    check_count("lora_rank", lora_rank, 0)


def check_pool(pool: Any) -> None:
    """Raise unless `pool` is a way from tokens to outputs."""
    if not is_choice(pool, POOLS):
        raise InvalidArgumentError(
            f"pool is {shown(pool)}; give one of {', '.join(map(repr, POOLS))}"
        )


def check_pad_id(pad_id: Any) -> None:
    """Raise unless `pad_id` is a token or None."""
    if pad_id is not None and (not is_whole(pad_id, 0) or int(pad_id) >= 2**31):
        raise InvalidArgumentError(
            f"pad_id is {shown(pad_id)}; give the id of the padding, below 2**31, or None"
        )


def check_shape(input_shape: Any, least: int, described: str) -> tuple[int, ...]:
    """The shape of one point as a tuple of at least `least` positive integers."""
    sizes = input_shape if isinstance(input_shape, Sequence) else ()
    if len(sizes) < least or not all(is_whole(size, 1) for size in sizes):
        raise InvalidArgumentError(
            f"input_shape is {input_shape!r}; give the shape of one point, {described}"
        )
    return tuple(int(size) for size in sizes)


def check_image(x: Any) -> None:
    """Raise unless `x` is a batch of images, ``(B, height, width, channels)``."""
    if x.ndim != 4:
        raise ShapeError(
            f"the inputs have shape {x.shape}; give images, (batch, height, width, channels)"
        )


def check_patches(height: int, width: int, patch_size: int) -> None:
    """Raise unless patches of `patch_size` tile the image."""
    if height % patch_size or width % patch_size:
        raise ShapeError(
            f"images of {height} x {width} do not divide into patches of patch_size {patch_size}; "
            "crop or resize them, or give another patch_size"
        )
