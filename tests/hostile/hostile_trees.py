"""Trees of parameters with wrong leaves, and callables that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hostile_arrays
import hostile_choices
import jax
import numpy as np
from hypothesis import strategies as st
from meaning import Boom, Hostile, Raises, Recipe, Same, Senseless, either, senseless

LEAVES = ("float", "none", "string", "object", "int", "list", "callable", "zero rows", "key")
TREES = ("extra", "missing", "empty", "list", "none", "number", "array", "string", "renamed")
TREES += ("nested", "integer keys", "tuple", "flat", "leaf twice", "class")
RESULTS = ("raises", "none", "string", "nan", "object", "class", "number", "tuple", "no callable")
RESULTS += ("in place", "empty array", "wrong shape", "not a function")


OTHER_ARGUMENTS = ("lambda of two", "class")


def recipes_of_trees() -> st.SearchStrategy[Recipe]:
    return st.one_of(
        st.tuples(st.just("leaf"), st.sampled_from(LEAVES), st.integers(0, 7)),
        st.tuples(st.just("tree"), st.sampled_from(TREES), st.integers(0, 7)),
        st.tuples(st.just("array"), hostile_arrays.recipes(), st.integers(0, 7)),
        st.tuples(st.just("other"), st.sampled_from(hostile_choices.OTHERS), st.just(0)),
    )


def recipes_of_callables() -> st.SearchStrategy[Recipe]:
    return st.one_of(
        st.tuples(st.just("gives"), st.sampled_from(RESULTS)),
        # One that takes other arguments is told so by Python, which names it.
        st.tuples(
            st.just("other"),
            st.sampled_from([o for o in hostile_choices.OTHERS if o not in OTHER_ARGUMENTS]),
        ),
    )


def make_tree(recipe: Recipe, right: Any) -> Hostile:
    name, detail, place = recipe
    if name == "other" or not jax.tree.leaves(right):
        kind = detail if name == "other" else "list"
        return senseless(hostile_choices.other(kind))
    leaves, structure = jax.tree.flatten(right)
    place %= len(leaves)

    def with_leaf(leaf: Any) -> Any:
        return jax.tree.unflatten(structure, [*leaves[:place], leaf, *leaves[place + 1 :]])

    if name == "array":
        made = hostile_arrays.make(tuple(detail), np.asarray(leaves[place]))
        meaning = made.meaning
        if isinstance(made.value, list | tuple):
            meaning = Senseless()  # is a tree, and no leaf
        if isinstance(meaning, Same):
            meaning = Same(with_leaf(meaning.plain), max(meaning.eps, 2.0**-20))
        return Hostile(with_leaf(made.value), meaning)
    if name == "leaf":
        if detail == "int":
            whole = np.asarray(leaves[place]).astype(np.int32)
            return Hostile(with_leaf(whole), Same(with_leaf(whole.astype(np.float32)), 2.0**-20))
        return senseless(
            with_leaf(
                {
                    "float": 0.5,
                    "none": None,
                    "string": "a",
                    "object": object(),
                    "list": [1.0, 2.0],
                    "callable": print,
                    "zero rows": np.zeros((0, 3), np.float32),
                    "key": jax.random.key(0),
                }[detail]
            )
        )
    return senseless(other_tree(right, detail))


def make_any_tree(recipe: Recipe, right: Any) -> Hostile:
    """The same where any tree of numbers is right, and only its shapes or numbers are asked for."""
    made = make_tree(recipe, right)
    no_numbers = recipe[0] == "leaf" and recipe[1] in ("string", "object", "callable", "key")
    if recipe[0] == "other":
        numbers = ("none", "list", "dict", "array", "jax", "tuple", "zero", "one", "minus one")
        no_numbers = recipe[1] not in (*numbers, "nan", "huge")
    elif recipe[0] == "tree":
        no_numbers = recipe[1] in ("string", "class")
    elif recipe[0] == "array":
        kept = ("empty list", "dict", "none", "number")
        no_numbers = recipe[1][0] in ("no numbers", "wrong kind") and recipe[1][1] not in kept
    return made if no_numbers or isinstance(made.meaning, Same) else either(made.value)


def make_tree_like(recipe: Recipe, right: Any) -> Hostile:
    """The same where results have the tree's dtypes: half precision stays so in its plain form."""
    made = make_any_tree(recipe, right)
    if not isinstance(made.meaning, Same):
        return made

    def plain(value: Any, wide: Any) -> Any:
        dtype = np.asarray(value).dtype
        half = jax.numpy.issubdtype(dtype, np.floating) and dtype.itemsize == 2
        return np.asarray(value).astype(dtype.newbyteorder("=")) if half else wide

    return Hostile(
        made.value,
        Same(jax.tree.map(plain, made.value, made.meaning.plain), made.meaning.eps),
    )


def other_tree(right: Any, kind: str) -> Any:
    leaves = jax.tree.leaves(right)
    if kind in ("extra", "missing", "renamed", "integer keys", "leaf twice"):
        changed = dict(right) if isinstance(right, dict) else {"a": right}
        first = next(iter(changed))
        if kind == "extra":
            changed["extra"] = np.zeros(2, np.float32)
        elif kind == "leaf twice":
            changed["again"] = changed[first]
        else:
            leaf = changed.pop(first)
            if kind != "missing":
                changed["renamed" if kind == "renamed" else 0] = leaf
        return changed
    return {
        "empty": {},
        "list": leaves,
        "none": None,
        "number": 1.0,
        "array": np.zeros(3, np.float32),
        "string": "params",
        "nested": {"params": {"params": right}},
        "tuple": tuple(leaves),
        "flat": np.concatenate([np.ravel(leaf) for leaf in leaves]),
        "class": dict,
    }[kind]


def make_callable(recipe: Recipe, right: Callable[..., Any]) -> Hostile:
    """A callable in place of `right`, as JAX, a loader or a configuration calls it."""
    name, detail = recipe
    if name == "other":
        return senseless(hostile_choices.other(detail))
    if detail == "raises":

        def raises(*arguments: Any, **named: Any) -> Any:
            raise Boom

        return Hostile(raises, Raises())
    if detail == "not a function":
        return senseless("a function")
    if detail == "no callable":
        return senseless(7)
    if detail == "in place":

        def in_place(*arguments: Any, **named: Any) -> Any:
            for argument in arguments:
                if isinstance(argument, np.ndarray) and argument.flags.writeable:
                    argument[...] = 0
            return right(*arguments, **named)

        return either(in_place) if callable(right) else senseless(3)
    result = {
        "none": None,
        "string": "a",
        "nan": np.float32("nan"),
        "object": object(),
        "class": dict,
        "number": 3,
        "tuple": (1, 2, 3, 4),
        "empty array": np.zeros(0, np.float32),
        "wrong shape": np.zeros((2, 2, 2, 2), np.float32),
    }[detail]
    return senseless(lambda *arguments, **named: result)
