"""Switches, choices by name, paths and objects of a configuration that are something else."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from meaning import Hostile, Recipe, either, same, senseless


class Choice(enum.StrEnum):
    """A choice of a user's own."""

    ONE = "one"


OTHERS = ("none", "zero", "one", "minus one", "nan", "string", "empty string", "bytes", "list")
OTHERS += ("list of strings", "dict", "object", "class", "function", "array", "strings", "jax")
OTHERS += ("path", "huge", "0-d", "lambda of two", "tuple", "enum", "complex")


def recipes_of_switches() -> st.SearchStrategy[Recipe]:
    return st.one_of(
        st.tuples(st.just("wrapped"), st.sampled_from(("numpy", "0-d", "jax"))),
        st.tuples(st.just("other"), st.sampled_from(OTHERS)),
    )


def recipes_of_choices() -> st.SearchStrategy[Recipe]:
    forms = ("upper", "space", "empty", "numpy", "array", "0-d", "list", "bytes", "plural", "tuple")
    return st.one_of(
        st.tuples(st.just("form"), st.sampled_from(forms)),
        st.tuples(st.just("text"), st.text(max_size=8)),
        st.tuples(st.just("other"), st.sampled_from(OTHERS)),
    )


def recipes_of_objects() -> st.SearchStrategy[Recipe]:
    return st.tuples(st.just("other"), st.sampled_from(OTHERS))


def other(kind: str) -> Any:
    """Something that is no configuration, network, prior or callable that gives a result."""
    return {
        "none": None,
        "zero": 0,
        "one": 1,
        "minus one": -1,
        "nan": float("nan"),
        "string": "none such",
        "empty string": "",
        "bytes": b"probit",
        "list": [1, 2],
        "list of strings": ["probit", "mc"],
        "dict": {"a": 1},
        "object": object(),
        "class": Choice,
        "function": print,
        "array": np.zeros(3),
        "strings": np.array(["probit", "mc"]),
        "jax": jnp.zeros(3),
        "path": Path("none such"),
        "huge": 10**400,
        "0-d": np.array("probit"),
        "lambda of two": lambda first, second: None,
        "tuple": (),
        "enum": Choice.ONE,
        "complex": 1j,
    }[kind]


def make_switch(recipe: Recipe, right: Any) -> Hostile:
    name, detail = recipe
    right = right if isinstance(right, bool) else True
    if name == "wrapped":
        wrap = {"numpy": np.bool_, "0-d": np.array, "jax": jnp.asarray}[detail]
        return same(wrap(right), right)
    if detail in ("zero", "one"):
        return same(other(detail), detail == "one")
    return senseless(other(detail))


def make_choice(recipe: Recipe, right: Any) -> Hostile:
    name, detail = recipe
    right = right if isinstance(right, str) else "probit"
    if name == "other":
        return senseless(other(detail))
    if name == "text":
        return senseless(detail)
    if detail == "numpy":
        return same(np.str_(right), right)
    if detail == "0-d":
        return same(np.array(right), right)
    forms = {
        "upper": right.upper(),
        "space": f" {right}",
        "empty": "",
        "array": np.array([right]),
        "list": [right],
        "bytes": right.encode(),
        "plural": f"{right}s",
        "tuple": (right,),
    }
    return senseless(forms[detail])


def make_object(recipe: Recipe) -> Hostile:
    return senseless(other(recipe[1]))


def make_path(recipe: Recipe) -> Hostile:
    return either(other(recipe[1]))
