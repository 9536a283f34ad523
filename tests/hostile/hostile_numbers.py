"""Numbers, whole numbers, seeds, switches and choices that are none, or too large or too small."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from meaning import Hostile, Recipe, either, same, senseless

# Whether a number may be what the argument asks for, by the argument's name; others: any finite.
POSITIVE = {"noise_std", "prior_precision", "low", "high", "max_grad_norm", "init_step_size"}
POSITIVE |= {"final_step_size", "ridge_penalty", "hess_init", "a", "b", "gamma", "eps", "c"}
POSITIVE |= {"step_schedule", "learning_rate"}
BETWEEN_0_AND_1 = {"q", "error", "beta1", "beta2", "running_average_factor"}
RANGES: dict[str, Callable[[float], bool]] = {
    "std_init_params": lambda value: value >= 0,
    "mean_field_factor": lambda value: value >= 0,
    "momentum_decay": lambda value: 0 < value <= 1,
    "exploration_ratio": lambda value: 0 <= value < 1,
    "beta": lambda value: -1 < value < 0,
}
LEAST = {"n": 0, "devices": -1, "n_data": 0, "num_params": 0, "num_outputs": 0, "num_features": 0}
LEAST |= {"ignored_label": -(2**63), "rank": 2}
LEAST |= dict.fromkeys(("burnin_length", "burnin_epochs", "burnin_steps"), 0)
WRAPPED = ("float64", "float32", "0-d", "jax", "longdouble", "Fraction", "Decimal", "float16")
NO_NUMBER = ("true", "np.true", "string", "bytes", "none", "complex", "datetime", "object", "class")
NO_NUMBER += ("empty", "set", "callable", "nested")
VALUES = ("nan", "inf", "-inf", "0.0", "-0.0", "-1.0", "1e-200", "1e-320", "1e300", "1e39", "1e-30")
WHOLE = (-(10**400), -(2**63), -2, -1, 0, 1, 2, 3, 7, 2**31, 10**12, 2**63, 2**64, 10**400)


def recipes_of_numbers() -> st.SearchStrategy[Recipe]:
    floats = st.floats().map(lambda value: value.hex())
    return st.one_of(
        st.tuples(st.just("wrapped"), st.sampled_from(WRAPPED)),
        st.tuples(st.just("no number"), st.sampled_from(NO_NUMBER)),
        st.tuples(st.just("value"), st.sampled_from(VALUES).map(lambda value: float(value).hex())),
        st.tuples(st.just("value"), floats),
        st.tuples(st.just("huge"), st.sampled_from((10**400, -(10**400), 2**64, 10**30))),
        st.tuples(st.just("in an array"), st.sampled_from(("list", "array", "2-d", "strings"))),
    )


def recipes_of_integers() -> st.SearchStrategy[Recipe]:
    return st.one_of(
        st.tuples(st.just("wrapped"), st.sampled_from(("int64", "int8", "0-d", "jax", "Fraction"))),
        st.tuples(st.just("no number"), st.sampled_from(NO_NUMBER)),
        st.tuples(st.just("whole"), st.sampled_from(WHOLE)),
        st.tuples(st.just("whole"), st.integers(-5, 40)),
        st.tuples(
            st.just("value"), st.sampled_from(("nan", "inf", "1.5")).map(lambda v: float(v).hex())
        ),
        st.tuples(st.just("in an array"), st.sampled_from(("list", "array", "2-d", "strings"))),
    )


def recipes_of_sizes() -> st.SearchStrategy[Recipe]:
    """Whole numbers of any size."""
    sizes = st.sampled_from(WHOLE) | st.integers(-5, 40) | st.integers(2**40, 2**64)
    return st.tuples(st.just("whole"), sizes)


def recipes_of_seeds() -> st.SearchStrategy[Recipe]:
    keys = ("new", "as numpy", "length 1", "length 3", "length 4", "empty", "batch", "batch of new")
    keys += ("float", "int", "list", "rbg", "scalar", "big-endian")
    return st.one_of(recipes_of_integers(), st.tuples(st.just("key"), st.sampled_from(keys)))


def make(recipe: Recipe, right: Any, argument: str, *, whole: bool = False) -> Hostile:
    """The value of a recipe, made from a right number."""
    name, detail = recipe[0], recipe[1]
    number = not isinstance(right, bool) and isinstance(right, int | float | np.number)
    right = right if number else 1
    if name == "wrapped":
        return wrapped(right, detail)
    if name == "no number":
        value = no_number(detail)
        return senseless(value)
    if name == "in an array":
        return in_an_array(right, detail)
    if name == "key":
        return key(detail)
    value = float.fromhex(detail) if name == "value" else detail
    if argument == "n_epochs" and name == "whole" and value > 40:
        value %= 40  # so many epochs would be gone through, as they were asked for
    if whole:
        bad = not isinstance(value, int) or value < LEAST.get(argument, 0)
        return senseless(value) if bad else either(value)
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    bad = (
        not finite
        or (argument in POSITIVE and value <= 0)
        or (argument in BETWEEN_0_AND_1 and not 0 < value < 1)
        or (argument in RANGES and not RANGES[argument](value))
    )
    return senseless(value) if bad else either(value)


def wrapped(right: Any, kind: str) -> Hostile:
    if kind in ("float64", "float32", "float16", "longdouble", "int64", "int8"):
        value = np.dtype(kind).type(7 if kind == "int8" and right > 127 else right)
        plain = value.item() if kind != "longdouble" else float(value)
        return same(value, plain)
    if kind == "0-d":
        return same(np.array(right), right)
    if kind == "jax":
        value = jnp.asarray(right)
        return same(value, value.item())
    return same({"Fraction": Fraction, "Decimal": Decimal}[kind](right), right)


def no_number(kind: str) -> Any:
    return {
        "true": True,
        "np.true": np.True_,
        "string": "1.0",
        "bytes": b"1",
        "none": None,
        "complex": 1 + 1j,
        "datetime": np.datetime64("2020-01-01"),
        "object": object(),
        "class": float,
        "empty": np.zeros(0),
        "set": {1},
        "callable": lambda: 1,
        "nested": [[1.0], [2.0, 3.0]],
    }[kind]


def in_an_array(right: Any, kind: str) -> Hostile:
    if kind == "strings":
        return senseless(np.array(["1.0", "2.0"]))
    return either({"list": [right], "array": np.array([right]), "2-d": np.array([[right]])}[kind])


def key(kind: str) -> Hostile:
    old = jax.random.PRNGKey(0)
    if kind == "new":
        return either(jax.random.key(0))
    if kind == "rbg":
        return either(jax.random.key(0, impl="rbg"))
    if kind == "as numpy":
        return same(np.asarray(old), old)
    if kind == "big-endian":
        return same(np.asarray(old).astype(">u4"), old)
    if kind == "list":
        return same([0, 0], old)
    if kind == "batch of new":
        return senseless(jax.random.split(jax.random.key(0), 2))
    words = np.asarray(old)
    return senseless(
        {
            "length 1": words[:1],
            "length 3": np.zeros(3, np.uint32),
            "length 4": jnp.zeros(5, jnp.uint32),
            "empty": words[:0],
            "batch": np.stack([words, words]),
            "float": words.astype(np.float32),
            "int": words.astype(np.int64) - 1,
            "scalar": np.zeros((), np.float32),
        }[kind]
    )
