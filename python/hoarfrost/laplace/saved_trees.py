"""Trees of arrays in a file: their containers in its header, their leaves in its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import SavedFileError
from hoarfrost.storage import Pieces, StoredFile
from hoarfrost.types import Array, Path, Tree, path_of

# A container in JSON: {"dict": [[key, child], ...]}, {"list": [child, ...]}, {"tuple": ...}.
Template = Any

_LEAF = "leaf"


def template_of(tree: Tree) -> Template:
    """The containers of a tree; None where JSON has no word for one, or for a key."""
    try:
        return _template(tree)
    except _UnknownError:
        return None


class _UnknownError(Exception):
    """A container that JSON has no word for."""


def _template(node: Tree) -> Template:
    if isinstance(node, Mapping):
        if not all(type(key) in (str, int) for key in node):
            raise _UnknownError
        return {"dict": [[key, _template(node[key])] for key in sorted(node, key=_by_kind)]}
    if type(node) in (list, tuple):
        return {type(node).__name__: [_template(child) for child in node]}
    if node is None:
        return {"none": []}
    if not jax.tree_util.all_leaves([node]):
        raise _UnknownError
    return _LEAF


def _by_kind(key: Any) -> tuple[str, Any]:
    return type(key).__name__, key


def tree_of(template: Template, leaves: Any) -> Tree:
    """The tree with these leaves, in the order in which JAX goes over it."""
    iterator = iter(leaves)

    def build(node: Template) -> Tree:
        if node == _LEAF:
            return next(iterator)
        ((kind, children),) = node.items()
        if kind == "dict":
            return {key: build(child) for key, child in children}
        if kind == "none":
            return None
        built = [build(child) for child in children]
        return tuple(built) if kind == "tuple" else built

    return build(template)


def add_leaves(
    leaves: Mapping[Path, Any], prefix: str, arrays: dict[str, Array | Pieces]
) -> list[dict[str, Any]]:
    """What the header says of leaves by path, which are added to `arrays`."""
    listed = []
    for place, (path, leaf) in enumerate(leaves.items()):
        name = f"{prefix}{place}"
        arrays[name] = np.asarray(leaf)
        listed.append({"path": list(path), "array": name})
    return listed


def leaves_of(listed: list[dict[str, Any]], stored: StoredFile) -> dict[Path, Array]:
    """Leaves by path, mapped."""
    return {tuple(one["path"]): stored.array(one["array"]) for one in listed}


def leaves_by_path(tree: Tree) -> dict[Path, Any]:
    """The leaves of a tree by path, in the order in which JAX goes over it."""
    return {path_of(key): leaf for key, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def encoded(value: Any, prefix: str, arrays: dict[str, Array | Pieces]) -> Any:
    """A number, or a tree of numbers and arrays: numbers in the header, arrays beside it."""
    if isinstance(value, float) or value is None:
        return value
    listed: list[Any] = []
    for place, leaf in enumerate(jax.tree.leaves(value)):
        if isinstance(leaf, float):
            listed.append(leaf)
        else:
            arrays[f"{prefix}{place}"] = np.asarray(leaf)
            listed.append(f"{prefix}{place}")
    return listed


def decoded(value: Any, like: Tree, stored: StoredFile) -> Any:
    """What was `encoded`, as a tree like another."""
    if isinstance(value, float) or value is None:
        return value
    treedef: Any = jax.tree.structure(like)
    if len(value) != treedef.num_leaves:
        raise SavedFileError(f"{stored.path} is damaged: a tree has {len(value)} leaves")
    leaves = [stored.array(one).copy() if isinstance(one, str) else one for one in value]
    return jax.tree.unflatten(treedef, leaves)
