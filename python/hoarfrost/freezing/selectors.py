"""Every way to say which leaves are trainable becomes one `Partition`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import SelectionError
from hoarfrost.freezing.forms import Leaves, chosen_by, has_form
from hoarfrost.freezing.partition import Partition
from hoarfrost.freezing.table import listing
from hoarfrost.types import Path, Tree, join, path_of

# A function (path, value), a tree, a compiled regular expression, a list of names, an NNX filter,
# or "last_layer"; None for every leaf. `freezing.forms` has one function for each.
Selector = Any

LAST_LAYER = "last_layer"


def make_partition(
    params: Tree,
    selector: Selector,
    *,
    argument: str = "trainable",
    kinds: Mapping[Path, type] | None = None,
    head: Callable[[], Partition] | None = None,
    may_be_empty: bool = False,
) -> Partition:
    """Split a parameter tree by a selector.

    Parameters
    ----------
    params : tree of arrays
        The full tree.
    selector : optional
        One of:

        - ``None``: every leaf is trainable;
        - a function ``(path, value) -> bool | "trainable" | "frozen"``, asked once for each leaf,
          `path` being a tuple of str (int in lists) relative to `params`;
        - a tree of bools, or of "trainable" and "frozen", like `params`; an entry above several
          leaves stands for all of them;
        - a compiled regular expression, searched for in the path joined by "/";
        - a list of names: a leaf is trainable if one of them, "head" or "head/kernel", is a
          piece of its path; or a list of other selectors, one of which must choose the leaf;
        - an NNX filter: a class of variables, ``PathContains``, ``All``, ``Any``, ``Not``, ``...``;
        - "last_layer", where `head` is given.
    argument : str
        What the user calls the selector; errors say it.
    kinds : mapping of path to type, optional
        The class of the variable at each path, for NNX filters that ask for it.
    head : callable (), optional
        Finds the last layer.
    may_be_empty : bool
        Whether nothing at all may be trainable.

    Raises
    ------
    SelectionError
        If the selector is none of these or does not fit the tree (the path is named), or selects
        nothing (the tree of paths is printed); or if a leaf to be trained is not floating point.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    if not flat:
        raise SelectionError("the parameter tree holds no arrays: there is nothing to train")
    leaves = Leaves(tuple(path_of(key) for key, _ in flat), [leaf for _, leaf in flat], kinds or {})
    if isinstance(selector, str) and selector == LAST_LAYER and head is not None:
        return head()
    mask = (True,) * len(flat) if selector is None else chosen_by(selector, leaves, argument)
    _check_mask(leaves.paths, leaves.values, mask, argument, may_be_empty)
    return Partition(treedef, leaves.paths, mask)


def is_selector(value: Any) -> bool:
    """Whether `value` has a form of a selector; the rest can only be judged beside a tree."""
    return value is None or has_form(value) or (isinstance(value, str) and value == LAST_LAYER)


def _check_mask(
    paths: Sequence[Path],
    leaves: Sequence[Any],
    mask: Sequence[bool],
    argument: str,
    may_be_empty: bool,
) -> None:
    if not any(mask) and not may_be_empty:
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
