"""The two halves of a parameter tree: what is trained, and what is frozen.

A `Partition` is a static description of the tree with one flag a leaf. Splitting and merging only
move leaves about, so they work on arrays and on tracers alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from hoarfrost.errors import SelectionError
from hoarfrost.types import Path, Tree, join, path_of


@dataclass(frozen=True)
class Partition:
    """A tree of parameters split into a trainable and a frozen part.

    Attributes
    ----------
    treedef : jax.tree_util.PyTreeDef
        Structure of the full tree.
    paths : tuple of tuple of str or int
        Path of each leaf, in `jax.tree_util` order.
    mask : tuple of bool
        Whether each leaf is trainable.
    """

    treedef: Any
    paths: tuple[Path, ...]
    mask: tuple[bool, ...]

    @property
    def all_trainable(self) -> bool:
        """Whether nothing is frozen."""
        return all(self.mask)

    @property
    def trainable_paths(self) -> tuple[Path, ...]:
        """Paths of the trainable leaves, in the order in which they are ravelled."""
        return tuple(path for path, chosen in zip(self.paths, self.mask, strict=True) if chosen)

    @property
    def by_path(self) -> dict[Path, bool]:
        """Whether each leaf is trainable, by its path."""
        return dict(zip(self.paths, self.mask, strict=True))

    def split(self, params: Tree) -> tuple[Tree, Tree]:
        """The trainable and the frozen tree.

        Both have the containers of `params`; a leaf of the other part is ``None``, and a mapping
        entry that holds none of a tree's own leaves is left out, so that the trainable tree of a
        last layer reads ``{"params": {"l3": {...}}}``.
        """
        leaves = self.treedef.flatten_up_to(params)
        trainable = [x if chosen else None for x, chosen in zip(leaves, self.mask, strict=True)]
        frozen = [None if chosen else x for x, chosen in zip(leaves, self.mask, strict=True)]
        return _prune(self.treedef.unflatten(trainable)), _prune(self.treedef.unflatten(frozen))

    def merge(self, trainable: Tree, frozen: Tree) -> Tree:
        """The full tree again, with the containers that `make_partition` saw.

        Raises
        ------
        SelectionError
            If a leaf is missing from its tree; its path is named.
        """
        halves = {True: _by_path(trainable), False: _by_path(frozen)}
        leaves = []
        for path, chosen in zip(self.paths, self.mask, strict=True):
            if path not in halves[chosen]:
                part = "trainable" if chosen else "frozen"
                raise SelectionError(f"the {part} tree has no leaf at {join(path)!r}")
            leaves.append(halves[chosen][path])
        return self.treedef.unflatten(leaves)


def _by_path(tree: Tree) -> dict[Path, Any]:
    return {path_of(key): leaf for key, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _prune(node: Any) -> Any:
    """Leave out the mapping entries below `node` that hold no leaf."""
    if isinstance(node, Mapping):
        kept = {k: _prune(v) for k, v in node.items() if jax.tree.leaves(v)}
        return kept if type(node) is dict else _rebuilt(node, kept)
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(*map(_prune, node))
    if type(node) in (list, tuple):
        return type(node)(map(_prune, node))
    return node


def _rebuilt(node: Mapping[Any, Any], kept: dict[Any, Any]) -> Any:
    try:
        return type(node)(kept)  # type: ignore[call-arg]
    except TypeError:
        # A mapping with a constructor of its own keeps its empty entries: harmless.
        return node
