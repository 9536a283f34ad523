"""Arrays in odd dtypes, layouts and shapes, and with numbers that do not belong in them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from meaning import Hostile, Recipe, either, same, senseless

REAL = ("f4", "f8", "f2", "bfloat16", "longdouble", "i1", "i8", "u1", "u4", "u8", "bool")
SWAPPED = (">f2", ">f4", ">f8", ">i2", ">i4", ">i8", ">u4", ">u8")
NO_NUMBERS = ("c8", "c16", ">c8", "M8[s]", "m8[s]", "U", "S", "O", "V8", "struct")
LAYOUTS = ("every second", "backward", "fortran", "read-only", "misaligned", "jax", "list")
LAYOUTS += ("tuple", "nested list", "subclass", "repeated row", "memoryview", "mask of none")
LISTS = ("list", "nested list", "tuple")
WRONG = ("none", "string", "number", "dict", "set", "class", "generator", "masked", "empty list")
SPECIAL = (
    "nan",
    "inf",
    "-inf",
    "1e39",
    "-1e39",
    "1e300",
    "1e-300",
    "2**31",
    "2**40",
    "-2**40",
    "-1",
)
SHAPES = ("no rows", "no columns", "one more axis in front", "one more axis behind", "flat")
SHAPES += ("0-d", "one row less", "one column less", "one column more", "transposed")


def recipes() -> st.SearchStrategy[Recipe]:
    return st.one_of(
        st.tuples(st.just("dtype"), st.sampled_from(REAL + SWAPPED)),
        st.tuples(st.just("swapped"), st.sampled_from(SWAPPED)),
        st.tuples(st.just("no numbers"), st.sampled_from(NO_NUMBERS)),
        st.tuples(st.just("layout"), st.sampled_from(LAYOUTS)),
        st.tuples(st.just("wrong kind"), st.sampled_from(WRONG)),
        st.tuples(st.just("with"), st.sampled_from(SPECIAL), st.integers(0, 35)),
        st.tuples(st.just("shape"), st.sampled_from(SHAPES)),
    )


def recipes_of_checked() -> st.SearchStrategy[Recipe]:
    """Arrays of real numbers, as our own code hands them on."""
    return st.one_of(
        st.tuples(st.just("dtype"), st.sampled_from(("f4", "f8", ">f8", "f2", "i8"))),
        st.tuples(st.just("layout"), st.sampled_from(LAYOUTS)),
        st.tuples(st.just("with"), st.sampled_from(SPECIAL), st.integers(0, 35)),
        st.tuples(st.just("shape"), st.sampled_from(SHAPES)),
    )


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def make(recipe: Recipe, right: Any) -> Hostile:
    """The value of a recipe, made from a right array."""
    name, detail = recipe[0], recipe[1]
    array = np.asarray(right)
    if name in ("dtype", "swapped"):
        return in_dtype(array, dtype_of(detail))
    if name == "no numbers":
        return without_numbers(array, detail)
    if name == "layout":
        return laid_out(array, detail)
    if name == "wrong kind":
        return senseless(wrong_kind(array, detail))
    if name == "with":
        return with_special(array, detail, recipe[2])
    return shaped(array, detail)


def in_dtype(array: np.ndarray, dtype: np.dtype) -> Hostile:
    unsigned = dtype.kind in "ub"
    value = (np.abs(array) if unsigned else array).astype(dtype)
    # In float64 a number may lie on the other side of an edge than in float32.
    exact = dtype.kind == "f" and dtype.itemsize >= 8 and array.dtype.kind == "f"
    plain = value.astype(np.float64 if exact else array.dtype)
    eps = {"e": 2.0**-10, "E": 2.0**-7}.get(dtype.char, 2.0**-23)
    return same(value, plain, 2.0**-7 if "bfloat16" in dtype.name else eps)


def without_numbers(array: np.ndarray, kind: str) -> Hostile:
    if kind == "struct":
        return senseless(np.zeros(array.shape, [("a", "f4"), ("b", "f4")]))
    if kind in ("U", "S"):
        return senseless(array.astype(kind))
    if kind == "O":
        mixed = array.astype(object)
        mixed.flat[0] = "a"
        return senseless(mixed)
    if kind == "V8":
        return senseless(np.zeros(array.shape, "V8"))
    if kind[0] in "Mm":
        return senseless(array.astype(np.int64).astype(kind))
    value = array.astype(kind)
    value.flat[0] += 1j
    return senseless(value)


def laid_out(array: np.ndarray, layout: str) -> Hostile:
    """The same numbers, lying otherwise."""
    value: Any = array.copy()
    if layout == "every second" and array.ndim:
        value = np.repeat(array, 2, axis=0)[::2]
    elif layout == "backward" and array.ndim:
        value = array[::-1].copy()[::-1]
    elif layout == "fortran":
        value = np.asfortranarray(array)
    elif layout == "read-only":
        value.setflags(write=False)
    elif layout == "misaligned":
        room = np.zeros(array.nbytes + 1, np.uint8)
        value = room[1:].view(array.dtype).reshape(array.shape)
        value[...] = array
    elif layout == "jax":
        value = jnp.asarray(array)
    elif layout in ("list", "nested list"):
        value = array.tolist()
    elif layout == "tuple":
        value = tuple(array.tolist()) if array.ndim else array.tolist()
    elif layout == "subclass":
        value = value.view(Subclass)
    elif layout == "memoryview":
        value = memoryview(value)
    elif layout == "mask of none":
        value = np.ma.masked_array(value, mask=np.zeros(array.shape, bool))
    elif layout == "repeated row" and array.ndim:
        value = np.broadcast_to(array[:1], array.shape)
        return same(value, value.copy())
    return same(value, np.array(value) if layout in LISTS else array)


class Subclass(np.ndarray):
    """An array that is not only an array."""


def wrong_kind(array: np.ndarray, kind: str) -> Any:
    if kind == "masked":
        return np.ma.masked_array(array, mask=np.ones(array.shape, bool))
    if kind == "generator":
        return (row for row in array.reshape(-1))
    if kind == "set":
        return {1.0, 2.0}
    return {
        "none": None,
        "string": "inputs",
        "number": 1.5,
        "dict": {"a": array},
        "class": np.ndarray,
        "empty list": [],
    }[kind]


def with_special(array: np.ndarray, special: str, place: int) -> Hostile:
    whole = array.dtype.kind in "iu"
    base, _, power = special.partition("**")
    number = int(base) ** int(power) if power and not base.startswith("-") else None
    if special == "-2**40":
        number = -(2**40)
    number = float(special) if number is None else number
    in_float = not whole or (not isinstance(number, int) and not float(number).is_integer())
    value = array.astype(np.float64 if in_float else np.int64)
    if abs(number) > 2.0**62 and not in_float:
        value = array.astype(np.float64)
    if not value.size:
        return either(value)
    value.flat[place % value.size] = number
    if not np.isfinite(number):
        return senseless(value)
    return either(value)


def shaped(array: np.ndarray, shape: str) -> Hostile:
    if array.ndim == 0:  # stands for an array of any shape
        return either(array[None] if "axis" in shape else array)
    if shape == "no rows":
        return either(array[:0] if array.ndim else array)
    if shape == "one row less":
        return either(array[:-1] if array.ndim else array)
    if shape == "no columns":
        return senseless(array[..., None][..., :0] if array.ndim < 2 else array[..., :0])
    if shape == "one more axis in front":
        return senseless(array[None])
    if shape == "one more axis behind":
        # The bounds of intervals may have an axis of one output.
        return senseless(array[..., None]) if array.ndim > 1 else either(array[..., None])
    if shape == "0-d":
        return senseless(array.reshape(-1)[0])
    if shape == "flat":
        return senseless(array.reshape(-1)) if array.ndim > 1 else either(array)
    if array.ndim < 2:
        return either(array)
    if shape == "transposed":
        square = array.shape[0] == array.shape[-1]
        return either(array.T) if square else senseless(array.T)
    if shape == "one column less":
        return senseless(array[..., :-1])
    return senseless(np.concatenate([array, array[..., :1]], axis=-1))
