"""Nested mappings and the paths of their leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hoarfrost.types import Path, Tree


def by_path(tree: Tree) -> dict[Path, Any]:
    """The leaves of a nested mapping by their paths; whatever is no mapping is a leaf."""
    found: dict[Path, Any] = {}

    def walk(node: Any, path: Path) -> None:
        if isinstance(node, Mapping):
            for name, item in node.items():
                walk(item, (*path, name))
        else:
            found[path] = node

    walk(tree, ())
    return found


def nested(leaves: Mapping[Path, Any]) -> dict[Any, Any]:
    """The nested dict with these leaves."""
    tree: dict[Any, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree
