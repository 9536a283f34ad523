"""A tree of arrays as a description, which JSON can hold, and arrays by name, which Orbax stores.

Orbax alone gives other containers back than it was given (tuples as lists, whole numbers as keys as
str), and takes no array without entries: the description has what it would lose.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import CheckpointError
from hoarfrost.network.nested import nested
from hoarfrost.types import Path, Tree, join, path_of


def by_names(tree: Tree) -> Tree:
    """A tree of any containers as nested dicts, keyed by the names of fields and by places."""
    if tree is None or jax.tree_util.all_leaves([tree]):
        return tree
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return nested({path_of(path): leaf for path, leaf in leaves})


def described(tree: Tree, name: str, arrays: dict[Path, np.ndarray]) -> Any:
    """What is to be known of a tree beside its arrays, which are put into `arrays`.

    Raises
    ------
    CheckpointError
        If the tree has other containers than dicts, lists and tuples, or a leaf is no array.
    """
    return _described(tree, (name,), arrays)


def rebuilt(description: Any, arrays: Mapping[Path, np.ndarray]) -> Tree:
    """The tree again: JAX arrays, but NumPy's where JAX has no such dtype."""
    if description is None:
        return None
    if "dict" in description:
        return {key: rebuilt(node, arrays) for key, node in description["dict"]}
    if "list" in description:
        return [rebuilt(node, arrays) for node in description["list"]]
    if "tuple" in description:
        return tuple(rebuilt(node, arrays) for node in description["tuple"])
    return _leaf(description, arrays)


def warn_of_narrow_numbers(trees: Tree, where: str) -> None:
    """Say that numbers have more bits than JAX is set to."""
    wide = {str(leaf.dtype) for leaf in jax.tree.leaves(trees) if isinstance(leaf, np.ndarray)}
    if wide:
        warnings.warn(
            f"{where} holds numbers in {', '.join(sorted(wide))}, and JAX is set to 32 bits: they "
            "are kept as they are, but what is computed of them is rounded; for the same numbers "
            'as before call jax.config.update("jax_enable_x64", True) first',
            UserWarning,
            stacklevel=4,
        )


def _described(node: Any, path: Path, arrays: dict[Path, np.ndarray]) -> Any:
    if node is None:
        return None
    if isinstance(node, Mapping):
        for key in node:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise CheckpointError(
                    f"{join(path)} has the key {shown(key)}; a checkpoint holds keys that are str "
                    "or int"
                )
        items = [[key, _described(item, (*path, key), arrays)] for key, item in node.items()]
        return {"dict": items}
    if type(node) in (list, tuple):
        items = [_described(item, (*path, i), arrays) for i, item in enumerate(node)]
        return {type(node).__name__: items}
    return _described_leaf(node, path, arrays)


def _described_leaf(leaf: Any, path: Path, arrays: dict[Path, np.ndarray]) -> dict[str, Any]:
    description: dict[str, Any] = {}
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        description["key"] = str(jax.random.key_impl(leaf))
        leaf = jax.random.key_data(leaf)
    if not jax.tree_util.all_leaves([leaf]):
        raise CheckpointError(
            f"{join(path)} is a {type(leaf).__name__}; a checkpoint holds arrays in dicts, lists "
            "and tuples (give the arrays without their boxes, as flax.linen.meta.unbox does)"
        )
    array = np.asarray(leaf)
    if array.dtype.kind in "OSUMm" or array.dtype == np.longdouble:
        raise CheckpointError(
            f"{join(path)} is {shown(leaf)}, of dtype {array.dtype}; a checkpoint holds numbers"
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    names = tuple(map(_escaped, path))
    description |= {"leaf": list(names), "dtype": array.dtype.name, "shape": list(array.shape)}
    # Orbax refuses an array without entries.
    if array.size:
        arrays[names] = array
    return description


def _leaf(description: Mapping[str, Any], arrays: Mapping[Path, np.ndarray]) -> Any:
    shape, dtype = tuple(description["shape"]), jnp.dtype(description["dtype"])
    names = tuple(description["leaf"])
    array = arrays[names] if names in arrays else np.empty(shape, dtype)
    if array.shape != shape or array.dtype != dtype or (names not in arrays and array.size):
        raise CheckpointError(f"the array {join(names)} is missing, or not as it is described")
    if "key" in description:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=description["key"])
    # What JAX would round stays as it was.
    return jnp.asarray(array) if jax.dtypes.canonicalize_dtype(dtype) == dtype else array


def _escaped(name: str | int) -> str:
    """A name in which no character can be taken for one between names, and that is not empty."""
    text = "".join(
        letter
        if letter.isascii() and (letter.isalnum() or letter in "_-")
        else f"%{ord(letter):x}%"
        for letter in str(name)
    )
    return text or "%%"
