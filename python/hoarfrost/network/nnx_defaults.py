"""New values of a module that `nnx.eval_shape` made, by the defaults of Flax's own layers.

Such a module has shapes and no initialisers: which ones its layers were made with is not known.
"""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network.nested import nested
from hoarfrost.network.nnx import NnxNetwork
from hoarfrost.network.nnx_module import modules_in
from hoarfrost.types import Path, Tree, join

# Layers whose variables start from what their own arguments say, and what only holds such layers.
_LAYERS = tuple(
    getattr(nnx, name)
    for name in (
        *("Linear", "LinearGeneral", "Einsum", "Conv", "ConvTranspose", "Embed", "LoRA"),
        *("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm", "Dropout"),
    )
    if hasattr(nnx, name)
)
_HOLDERS = tuple(
    getattr(nnx, name)
    for name in ("Sequential", "List", "Dict", "MultiHeadAttention", "LoRALinear")
    if hasattr(nnx, name)
)
_STATISTICS = {"mean": jnp.zeros, "var": jnp.ones}


def default_values(module: Any, network: NnxNetwork, key: jax.Array, argument: str) -> Tree:
    """New values for all variables, as the network's `split` takes them; warns of what it does.

    Raises
    ------
    InvalidArgumentError
        If a variable is none of a layer of Flax whose default is known.
    """
    owners = {path: layer for path, layer in modules_in(module)}
    values: dict[Path, jax.Array] = {}
    lacking = []
    for index, (path, kind) in enumerate(network.kinds.items()):
        if issubclass(kind, nnx.RngState):
            continue
        owner, name = owners.get(path[:-1]), str(path[-1])
        strange = [layer for place, layer in owners.items() if _encloses(place, path, layer)]
        shape = getattr(owner, name, None)
        value = None
        if owner is not None and shape is not None and not strange:
            like = shape.get_value() if hasattr(shape, "get_value") else shape
            value = _new(owner, name, kind, like, jax.random.fold_in(key, index))
        if value is None:
            lacking.append(path)
        else:
            values[path] = value
    if lacking:
        raise InvalidArgumentError(
            f"{argument} was made by nnx.eval_shape, and nothing says what its variables at "
            f"{', '.join(map(join, lacking[:5]))}{' and elsewhere' if len(lacking) > 5 else ''} "
            "start from; give a function that makes it of rngs, or a module with values"
        )
    warnings.warn(
        f"{argument} was made by nnx.eval_shape, which keeps no initialisers: its layers start "
        "from the defaults of their classes; give a function that makes it of rngs if it asks for "
        "others",
        UserWarning,
        stacklevel=2,
    )
    return nested(network.with_missing_state(values))


def _encloses(place: Path, path: Path, layer: Any) -> bool:
    """Whether a module above a variable may have started it in a way of its own."""
    if path[: len(place)] != place:
        return False
    return type(layer).__module__.startswith("flax.") and not isinstance(layer, _LAYERS + _HOLDERS)


def _new(owner: Any, name: str, kind: type, like: Any, key: jax.Array) -> jax.Array | None:
    """A new value; None where no default is known."""
    if not isinstance(owner, _LAYERS):
        return None
    if issubclass(kind, nnx.BatchStat):
        made = _STATISTICS.get(name)
        return None if made is None else made(like.shape, like.dtype)
    if not issubclass(kind, nnx.Param):
        return None
    given = inspect.signature(type(owner).__init__).parameters
    # LoRA's are named by their last letter.
    named = given.get(f"{name}_init") or given.get(f"{name[-1]}_initializer")
    if named is None or not callable(named.default):
        return None
    shape = tuple(like.shape)
    if isinstance(owner, nnx.LinearGeneral) and name == "kernel":
        inputs = len(owner.in_features)
        flat = (math.prod(shape[:inputs]), math.prod(shape[inputs:]))
        value: jax.Array = named.default(key, flat, like.dtype).reshape(shape)
        return value
    found: jax.Array = named.default(key, shape, like.dtype)
    return found
