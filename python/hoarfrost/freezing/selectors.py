"""Every way to say which leaves are trainable becomes one `Partition`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import SelectionError
from hoarfrost.freezing.partition import Partition
from hoarfrost.freezing.table import listing
from hoarfrost.types import Path, Tree, join, path_of

Selector = Callable[[Path, Any], bool | str]


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
    paths = tuple(path_of(key) for key, _ in flat)
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
            f"paths of the tree:\n{listing(paths, leaves)}"
        )
    for path, leaf, chosen in zip(paths, leaves, mask, strict=True):
        if chosen and not jax.numpy.issubdtype(leaf.dtype, np.floating):
            raise SelectionError(
                f"the parameter {join(path)!r} has dtype {leaf.dtype}: only floating-point "
                f"parameters can be trained; freeze it with {argument}"
            )
    return Partition(treedef, paths, mask)


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
