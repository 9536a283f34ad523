"""Trees of arrays, and the paths of their leaves."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import numpy as np

Tree = Any
Array = np.ndarray
Path = tuple[str | int, ...]
Record = TypeVar("Record")


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


def pytree(cls: type[Record]) -> type[Record]:
    """A frozen dataclass as a pytree of its fields, not to be confused with another class.

    Structures of two classes that `jax.tree_util.register_dataclass` knows compare equal where
    their fields have the same names, so that now and then the program of one was run for the other.
    """
    names = [one.name for one in dataclasses.fields(cls)]  # type: ignore[arg-type]

    def flatten(record: Any) -> tuple[tuple[Any, ...], None]:
        return tuple(getattr(record, name) for name in names), None

    def unflatten(_: None, values: tuple[Any, ...]) -> Any:
        made = object.__new__(cls)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(made, name, value)
        return made

    jax.tree_util.register_pytree_node(cls, flatten, unflatten)
    return cls
