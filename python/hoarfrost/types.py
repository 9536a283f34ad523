"""Trees of arrays, and the paths of their leaves."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

Tree = Any
Array = np.ndarray
Path = tuple[str | int, ...]


def path_of(key_path: tuple[Any, ...]) -> Path:
    """A key path of `jax.tree_util` as a tuple of str, and of int in lists."""
    entries: list[str | int] = []
    for entry in key_path:
        for attribute in ("key", "idx", "name"):
            if hasattr(entry, attribute):
                value = getattr(entry, attribute)
                entries.append(value if isinstance(value, int) else str(value))
                break
    return tuple(entries)


def join(path: Path) -> str:
    """A path as it is printed: its entries joined by "/"."""
    return "/".join(map(str, path))


def ravelled(tree: Tree) -> Array:
    """All numbers of a tree in one vector, float64, in the order of `ravel_pytree`."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.asarray(leaf).astype(np.float64).ravel() for leaf in leaves])
