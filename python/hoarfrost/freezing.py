"""Which leaves of a parameter tree are trainable, and the two halves of a tree.

Every kind of selector becomes one `Partition`: a static description of the tree with one flag a
leaf. Splitting and merging only move leaves about, so they work on arrays and on tracers alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import SelectionError

Tree = Any
Path = tuple[str | int, ...]
Selector = Callable[[Path, Any], bool | str]


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


def make_partition(
    params: Tree, selector: Selector | None, *, argument: str = "trainable"
) -> Partition:
    """Split a parameter tree by a selector.

    Parameters
    ----------
    params : tree of arrays
        The full tree.
    selector : callable, optional
        ``(path, value) -> bool | "trainable" | "frozen"``, asked once for each leaf, `path` being
        a tuple of str (int in lists) relative to `params`. ``None``: every leaf is trainable.
    argument : str
        What the user calls the selector; errors say it.

    Raises
    ------
    SelectionError
        If the selector is not callable, returns something else (the path is named), or selects
        nothing (the tree of paths is printed); or if a leaf to be trained is not floating point.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    if not flat:
        raise SelectionError("the parameter tree holds no arrays: there is nothing to train")
    paths = tuple(_path(key) for key, _ in flat)
    leaves = [leaf for _, leaf in flat]
    if selector is None:
        mask = (True,) * len(leaves)
    elif callable(selector):
        mask = _mask_from_callable(selector, paths, leaves, argument)
    else:
        raise SelectionError(
            f"{argument} is {selector!r}; give a function (path, value) that returns a bool, "
            "'trainable' or 'frozen', or None to train every parameter"
        )
    if not any(mask):
        raise SelectionError(
            f"{argument} selects no parameter to be trainable; check its spelling against the "
            f"paths of the tree:\n{_listing(paths, leaves)}"
        )
    for path, leaf, chosen in zip(paths, leaves, mask, strict=True):
        if chosen and not jax.numpy.issubdtype(leaf.dtype, np.floating):
            raise SelectionError(
                f"the parameter {join(path)!r} has dtype {leaf.dtype}: only floating-point "
                f"parameters can be trained; freeze it with {argument}"
            )
    return Partition(treedef, paths, mask)


def selection_table(params: Tree, partition: Partition) -> str:
    """A printable table: path, shape, trainable or frozen, and how many numbers, leaf by leaf."""
    leaves = partition.treedef.flatten_up_to(params)
    rows = [("parameter", "shape", "selection", "numbers")]
    totals = {True: 0, False: 0}
    for path, leaf, chosen in zip(partition.paths, leaves, partition.mask, strict=True):
        size = math.prod(leaf.shape)
        totals[chosen] += size
        part = "trainable" if chosen else "frozen"
        rows.append((join(path), str(tuple(leaf.shape)), part, f"{size:,}"))
    for chosen, part in ((True, "trainable"), (False, "frozen")):
        rows.append(("total", "", part, f"{totals[chosen]:,}"))
    return _columns(rows)


def join(path: Path) -> str:
    """A path as it is printed: its entries joined by "/"."""
    return "/".join(map(str, path))


def _mask_from_callable(
    selector: Selector, paths: Sequence[Path], leaves: Sequence[Any], argument: str
) -> tuple[bool, ...]:
    mask = []
    for path, leaf in zip(paths, leaves, strict=True):
        answer = selector(path, leaf)
        if isinstance(answer, bool | np.bool_):
            mask.append(bool(answer))
        elif isinstance(answer, str) and answer in ("trainable", "frozen"):
            mask.append(answer == "trainable")
        else:
            raise SelectionError(
                f"{argument} returned {answer!r} for the parameter {join(path)!r}; it must return "
                "True or 'trainable', or False or 'frozen'"
            )
    return tuple(mask)


def _path(key_path: tuple[Any, ...]) -> Path:
    entries: list[str | int] = []
    for entry in key_path:
        for attribute in ("key", "idx", "name"):
            if hasattr(entry, attribute):
                value = getattr(entry, attribute)
                entries.append(value if isinstance(value, int) else str(value))
                break
    return tuple(entries)


def _by_path(tree: Tree) -> dict[Path, Any]:
    return {_path(key): leaf for key, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


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


def _listing(paths: Sequence[Path], leaves: Sequence[Any]) -> str:
    return _columns([(join(p), str(tuple(x.shape))) for p, x in zip(paths, leaves, strict=True)])


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join("  " + line.rstrip() for line in lines)
