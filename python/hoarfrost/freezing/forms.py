"""The forms of a selector: for each, which leaves it chooses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import SelectionError
from hoarfrost.network.nnx_filters import asks_for_class, nnx_predicate
from hoarfrost.network.recognise import is_nnx_variable, nnx_value
from hoarfrost.types import Path, join, path_of

LABELS = {"trainable": True, "frozen": False}


Mask = tuple[bool, ...]


def refusal(selector: Any, argument: str) -> SelectionError:
    """The error for what is no selector; a bare string may have been meant in two ways."""
    name = selector if isinstance(selector, str) else "head"
    return SelectionError(
        f"{argument} is {shown(selector)}; give a function (path, value) that returns a bool, "
        "'trainable' or 'frozen'; a compiled regular expression such as "
        f"re.compile({name!r}); a list of names such as [{name!r}]; a tree of bools; an NNX "
        "filter; or None to train every parameter"
    )


@dataclass(frozen=True, eq=False)
class Leaves:
    """The leaves of a parameter tree.

    Attributes
    ----------
    paths, values
        Of each leaf, in tree order.
    kinds : mapping of path to type
        The class of the NNX variable at each path; empty for other networks.
    """

    paths: tuple[Path, ...]
    values: Sequence[Any]
    kinds: Mapping[Path, type]


def chosen_by(selector: Any, leaves: Leaves, argument: str) -> Mask:
    """Whether a selector chooses each of the leaves.

    Raises
    ------
    SelectionError
        If it has none of the forms, or does not fit the leaves.
    """
    predicate = nnx_predicate(selector)
    if predicate is not None:
        return _by_nnx_filter(predicate, selector, leaves, argument)
    if isinstance(selector, re.Pattern):
        return _by_expression(selector, leaves, argument)
    if isinstance(selector, str):
        raise refusal(selector, argument)
    if isinstance(selector, list | tuple) and not _is_tree(selector):
        return _by_list(selector, leaves, argument)
    if _is_tree(selector):
        return _by_tree(selector, leaves, argument)
    if callable(selector) and not inspect.isclass(selector):
        return _by_function(selector, leaves, argument)
    raise refusal(selector, argument)


def has_form(selector: Any) -> bool:
    """Whether this has one of the forms, whatever leaves there are; a str is a name in a list."""
    if nnx_predicate(selector) is not None or isinstance(selector, re.Pattern):
        return True
    if isinstance(selector, str):
        return False
    if isinstance(selector, list | tuple) and not _is_tree(selector):
        return all(isinstance(entry, str) or has_form(entry) for entry in selector)
    if _is_tree(selector):
        entries = jax.tree.leaves(selector, is_leaf=is_nnx_variable)
        return all(_answer(nnx_value(entry)) is not None for entry in entries)
    return callable(selector) and not inspect.isclass(selector)


def _by_function(selector: Callable[..., Any], leaves: Leaves, argument: str) -> Mask:
    mask = []
    for path, leaf in zip(leaves.paths, leaves.values, strict=True):
        given = selector(path, leaf)
        answer = _answer(given)
        if answer is None:
            raise SelectionError(
                f"{argument} returned {shown(given)} for the parameter {join(path)!r}; "
                "it must return True or 'trainable', or False or 'frozen'"
            )
        mask.append(answer)
    return tuple(mask)


def _by_expression(selector: re.Pattern[Any], leaves: Leaves, argument: str) -> Mask:
    if isinstance(selector.pattern, bytes):
        raise SelectionError(
            f"{argument} is {shown(selector)}, of bytes; paths are str: compile a str"
        )
    return tuple(selector.search(join(path)) is not None for path in leaves.paths)


def _by_nnx_filter(
    predicate: Callable[[Path, Any], bool], selector: Any, leaves: Leaves, argument: str
) -> Mask:
    if asks_for_class(predicate) and not leaves.kinds:
        raise SelectionError(
            f"{argument} is {shown(selector)}, which asks for the class of NNX variables, "
            "and the model is no NNX module; select by paths"
        )
    return tuple(
        bool(predicate(path, leaves.kinds[path](leaf) if path in leaves.kinds else leaf))
        for path, leaf in zip(leaves.paths, leaves.values, strict=True)
    )


def _by_list(selectors: Sequence[Any], leaves: Leaves, argument: str) -> Mask:
    """Leaves that one of the entries chooses, a str being a name that must be there."""
    masks = []
    for index, entry in enumerate(selectors):
        place = f"{argument}[{index}]"
        if not isinstance(entry, str):
            masks.append(chosen_by(entry, leaves, place))
            continue
        if entry in LABELS:
            raise SelectionError(
                f"{place} is {entry!r} in a list of names; a list of 'trainable' and 'frozen' "
                "alone is a tree, and a layer of that name needs a regular expression"
            )
        mask = tuple(f"/{entry}/" in f"/{join(path)}/" for path in leaves.paths)
        if not any(mask):
            raise SelectionError(
                f"{place} is {entry!r}, which is no name in the parameter tree: it has "
                f"{', '.join(map(join, leaves.paths[:20]))}"
            )
        masks.append(mask)
    return tuple(map(any, zip(*masks, strict=True))) if masks else (False,) * len(leaves.paths)


def _by_tree(selector: Any, leaves: Leaves, argument: str) -> Mask:
    """An entry stands for the leaf at its path, or for all leaves below it."""
    entries: dict[tuple[str, ...], bool] = {}
    for key_path, value in jax.tree_util.tree_flatten_with_path(selector, is_leaf=is_nnx_variable)[
        0
    ]:
        path = path_of(key_path)
        answer = _answer(nnx_value(value))
        if answer is None:
            raise SelectionError(
                f"{argument} holds {shown(value)} at {join(path) or 'the root'!r}; a tree of "
                "answers holds True or 'trainable', or False or 'frozen'"
            )
        entries[tuple(map(str, path))] = answer
    used: set[tuple[str, ...]] = set()
    mask = []
    for path in leaves.paths:
        names = tuple(map(str, path))
        above = [names[:length] for length in range(len(names), -1, -1)]
        found = next((entry for entry in above if entry in entries), None)
        if found is None:
            raise SelectionError(f"{argument} says nothing of the parameter {join(path)!r}")
        used.add(found)
        mask.append(entries[found])
    unused = [join(path) for path in entries if path not in used]
    if unused:
        raise SelectionError(
            f"{argument} has entries at {', '.join(unused[:5])}, where the parameter tree has none"
        )
    return tuple(mask)


def _answer(value: Any) -> bool | None:
    """True, False, or None for what is no answer; a label is not true for being a str."""
    if isinstance(value, str):
        return LABELS.get(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, jax.Array | np.ndarray) and value.dtype == bool and value.ndim == 0:
        return bool(value)
    return None


def _is_tree(selector: Any) -> bool:
    """Whether this is a tree of answers, and not a list of selectors."""
    if callable(selector) and jax.tree_util.all_leaves([selector]):
        return False
    if isinstance(selector, Mapping):
        return True
    leaves = jax.tree.leaves(selector, is_leaf=is_nnx_variable)
    return bool(leaves) and all(is_nnx_variable(x) or _answer(x) is not None for x in leaves)
