"""Token ids and masks out of what a loader gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.errors import InvalidArgumentError, ShapeError

NAMES = ("input_ids", "attention_mask")


def ids_and_mask(
    inputs: Any, pad_id: int | None, max_length: int
) -> tuple[jax.Array, jax.Array | None]:
    """Token ids and which of them count, both ``(B, T)``.

    Parameters
    ----------
    inputs : array, tuple or dict
        Ids; ``(ids, mask)``; or ``{"input_ids": ids, "attention_mask": mask}``, of which the mask
        may be missing. A mask is True, or not 0,
        where a token counts.
    pad_id : int or None
        Where there is no mask, the id of tokens that do not count.
    max_length : int
        The longest sequence that the network takes.

    Raises
    ------
    InvalidArgumentError
        If `inputs` is none of these, or the ids are not whole numbers.
    ShapeError
        If the ids are not ``(B, T)`` with T up to `max_length`, or the mask is shaped otherwise.
    """
    if isinstance(inputs, Mapping):
        unknown = sorted(set(inputs) - set(NAMES))
        if unknown or NAMES[0] not in inputs:
            raise InvalidArgumentError(
                f"the inputs are a dict of {sorted(inputs)}; give 'input_ids' and, if some tokens "
                "are padding, 'attention_mask'"
            )
        ids, mask = inputs[NAMES[0]], inputs.get(NAMES[1])
    elif isinstance(inputs, tuple | list):
        if len(inputs) != 2:
            raise InvalidArgumentError(
                f"the inputs are {len(inputs)} arrays; give token ids, or (ids, mask)"
            )
        ids, mask = inputs
    else:
        ids, mask = inputs, None
    ids = jnp.asarray(ids)
    if ids.ndim != 2 or ids.shape[1] > max_length:
        raise ShapeError(
            f"the token ids have shape {ids.shape}; give (batch, length) with a length of at most "
            f"max_length, {max_length}"
        )
    if mask is None:
        _check_whole(ids)
        return ids, None if pad_id is None else ids != pad_id
    if mask.shape != ids.shape:
        raise ShapeError(f"the mask has shape {mask.shape}, and the token ids {ids.shape}")
    _check_whole(ids)
    return ids, jnp.asarray(mask).astype(bool)


def _check_whole(ids: jax.Array) -> None:
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise InvalidArgumentError(f"the token ids are {ids.dtype}; give whole numbers")
