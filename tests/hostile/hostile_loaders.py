"""Loaders that end, shuffle, reuse their memory, or give batches that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hostile_arrays
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from meaning import Boom, Hostile, Raises, Recipe, Same, either, same, senseless

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader

Batch = Any
KINDS = ("none", "number", "string", "bytes", "dict", "class", "object", "function", "empty list")
KINDS += ("generator", "exhausted", "iterator", "array", "list of none", "list of numbers", "set")
KINDS += ("other loader", "targets loader", "loader class", "list of strings", "pair of loaders")
FORMS = ("list", "tuple", "own class", "loader of list", "loader of callable", "lists for pairs")
FORMS += ("jax batches", "no len", "one batch", "single points", "reused memory", "row of none")
FORMS += ("with an empty batch", "uneven", "tensors")
BROKEN = ("unequal", "unequal later", "width changes", "triples", "one of a pair", "dict inputs")
BROKEN += ("dict later", "none batch", "0-d batch", "raises", "raises later", "endless lengths")
BROKEN += ("only empty batches", "no targets", "rank changes", "dtype changes")
LABELS = ("-1", "class too many", "2**31", "2**40", "half", "nan", "inf", "one hot", "strings")
LABELS += ("complex", "bool", "two columns", "object", "big-endian", "uint8", "float16")


def recipes(*, pairs: bool) -> st.SearchStrategy[Recipe]:
    parts = [
        st.tuples(st.just("kind"), st.sampled_from(KINDS)),
        st.tuples(st.just("form"), st.sampled_from(FORMS)),
        st.tuples(st.just("broken"), st.sampled_from(BROKEN)),
        st.tuples(st.just("inputs"), hostile_arrays.recipes(), st.booleans()),
    ]
    if pairs:
        parts.append(st.tuples(st.just("targets"), st.sampled_from(LABELS), st.booleans()))
    return st.one_of(parts)


class Again:
    """Something that can be iterated again and again, and no more than that."""

    def __init__(self, batches: Callable[[], Iterator[Batch]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches()


class Tensor:
    """Stands for a tensor of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self._array, dtype)

    def numpy(self) -> np.ndarray:
        return self._array

    def __len__(self) -> int:
        return len(self._array)


def make(recipe: Recipe, right: list[Batch], wrap: Callable[[Any], Any]) -> Hostile:
    """A loader of a recipe, from right batches; `wrap` makes a plain list a right loader."""
    name, detail = recipe[0], recipe[1]
    pairs = isinstance(right[0], tuple)
    if name == "kind":
        return of_kind(right, detail, pairs)
    if name == "form":
        return of_form(right, detail, pairs, wrap)
    if name == "broken":
        return broken(right, detail, pairs)
    if name == "targets":
        return with_targets(right, detail, recipe[2], wrap)
    return with_inputs(right, recipe[1], recipe[2], pairs, wrap)


def of_kind(right: list[Batch], kind: str, pairs: bool) -> Hostile:
    if kind in ("generator", "iterator"):
        value: Any = iter(right) if kind == "iterator" else (batch for batch in right)
        return same(value, right)
    if kind == "exhausted":
        spent = iter(right)
        list(spent)
        return senseless(spent)
    loader = DataLoader.from_array_data((np.zeros((4, 2), np.float32), np.zeros(4, np.int32)))
    inputs = InputsLoader.from_array_inputs(np.zeros((4, 2), np.float32))
    return senseless(
        {
            "none": None,
            "number": 3,
            "string": "data",
            "bytes": b"data",
            "dict": {"x": 1},
            "class": DataLoader if pairs else InputsLoader,
            "object": object(),
            "function": lambda: right,
            "empty list": [],
            "array": np.float32(1.5),
            "list of none": [None, None],
            "list of numbers": [1, 2],
            "set": {1, 2},
            "other loader": inputs if pairs else loader,
            "targets loader": TargetsLoader.from_array_targets(np.zeros(4, np.int32)),
            "loader class": list,
            "list of strings": ["a", "b"],
            "pair of loaders": (loader, inputs),
        }[kind]
    )


def parts(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    return tuple(map(change, batch)) if isinstance(batch, tuple) else change(batch)


def whole(right: list[Batch]) -> Batch:
    if isinstance(right[0], tuple):
        return tuple(np.concatenate(part) for part in zip(*right, strict=True))
    return np.concatenate(right)


def of_form(right: list[Batch], form: str, pairs: bool, wrap: Callable[[Any], Any]) -> Hostile:
    """The same points, given otherwise."""
    batches: Any = list(right)
    loader = DataLoader if pairs else InputsLoader
    if form == "tuple":
        batches = tuple(right)
    elif form == "own class":
        batches = Again(lambda: iter(right))
    elif form == "no len":
        batches = Again(lambda: (batch for batch in right))
    elif form == "loader of list":
        batches = loader.from_iterable(right)
    elif form == "loader of callable":
        batches = loader.from_callable_iterable(lambda: iter(right))
    elif form == "lists for pairs" and pairs:
        batches = [list(batch) for batch in right]
    elif form == "jax batches":
        batches = [parts(batch, jnp.asarray) for batch in right]
    elif form == "tensors":
        batches = [parts(batch, Tensor) for batch in right]
    elif form == "one batch":
        return Hostile(batches := [whole(right)], Same(wrap(batches), 2.0**-18))
    elif form == "uneven":
        all_points = whole(right)
        cut = [parts(all_points, lambda a: a[:5]), parts(all_points, lambda a: a[5:])]
        return Hostile(cut, Same(wrap(cut), 2.0**-18))
    elif form == "single points":
        points = [parts(batch, lambda a, i=i: a[i : i + 1]) for batch in right for i in (0, 1)]
        return Hostile(points, Same(wrap(points), 2.0**-18))
    elif form == "reused memory":
        batches = Again(lambda: reused(right))
    elif form == "with an empty batch":
        batches = [right[0], parts(right[0], lambda a: a[:0]), *right[1:]]
    elif form == "row of none":
        return senseless([right[0], None])
    return same(batches, wrap(right))


def reused(right: list[Batch]) -> Iterator[Batch]:
    """Batches that all lie in the memory of the first."""
    memory = parts(right[0], np.array)
    for batch in right:
        if isinstance(batch, tuple):
            for place, part in zip(memory, batch, strict=True):
                place[...] = part
        else:
            memory[...] = batch
        yield memory


def broken(right: list[Batch], how: str, pairs: bool) -> Hostile:
    first = right[0]
    inputs = first[0] if pairs else first

    def with_inputs_of(changed: Any) -> Batch:
        return (changed, first[1]) if pairs else changed

    if how in ("raises", "raises later"):

        def batches() -> Iterator[Batch]:
            if how == "raises later":
                yield from right
            raise Boom

        return Hostile(Again(batches), Raises())
    if how == "unequal" or how == "unequal later":
        if not pairs:
            return senseless([{"a": inputs, "b": inputs[:-1]}])
        bad = (inputs, first[1][:-1])
        return senseless([bad] if how == "unequal" else [*right, bad])
    if how == "triples":
        return senseless([(inputs, first[1], first[1])] if pairs else [(inputs, inputs, inputs)])
    if how == "one of a pair":
        return senseless([(inputs,)])
    if how == "no targets":
        return senseless([(inputs, None)] if pairs else [(None, None)])
    if how == "endless lengths":
        return senseless([with_inputs_of(np.zeros((0, 0, 0)))])
    if how == "dtype changes":
        later = with_inputs_of(inputs.astype(np.float64) if inputs.dtype.kind == "f" else inputs)
        return same([right[0], later], [right[0], right[0]])
    changed = {
        "width changes": np.concatenate([inputs, inputs], axis=-1) if inputs.ndim > 1 else None,
        "rank changes": inputs[..., None],
        "dict inputs": {"a": inputs, "b": inputs},
        "dict later": {"a": inputs},
        "none batch": None,
        "0-d batch": np.float32(1),
        "only empty batches": inputs[:0],
    }[how]
    if how == "only empty batches":
        value = [parts(first, lambda a: a[:0])]
        return senseless(value) if pairs else either(value)
    batch = with_inputs_of(changed)
    return senseless(
        [batch] if how in ("dict inputs", "none batch", "0-d batch") else [*right, batch]
    )


def with_inputs(
    right: list[Batch], recipe: Recipe, later: bool, pairs: bool, wrap: Callable[[Any], Any]
) -> Hostile:
    """One batch of inputs is a hostile array."""
    place = len(right) - 1 if later else 0
    made = hostile_arrays.make(tuple(recipe), right[place][0] if pairs else right[place])

    def with_batch(inputs: Any) -> list[Batch]:
        changed = list(right)
        changed[place] = (inputs, right[place][1]) if pairs else inputs
        return changed

    meaning = made.meaning
    if isinstance(meaning, Same):
        meaning = Same(wrap(with_batch(meaning.plain)), max(meaning.eps, 2.0**-20))
    return Hostile(with_batch(made.value), meaning)


def with_targets(
    right: list[Batch], label: str, later: bool, wrap: Callable[[Any], Any]
) -> Hostile:
    """One batch of targets is not as it should be."""
    place = len(right) - 1 if later else 0
    inputs, targets = right[place]
    whole_numbers = targets.dtype.kind in "iu"

    def with_batch(changed: Any) -> list[Batch]:
        batches = list(right)
        batches[place] = (inputs, changed)
        return batches

    converted = {"big-endian": targets.dtype.newbyteorder(">"), "float16": np.float16}
    if whole_numbers:
        converted["uint8"] = np.uint8
    if label in converted:
        changed = targets.astype(converted[label])
        plain = wrap(with_batch(changed.astype(targets.dtype)))
        return Hostile(with_batch(changed), Same(plain, 2.0**-20))
    wide = targets.astype(np.float64)
    if label in ("half", "nan", "inf"):
        wide.flat[0] = {"half": 0.5, "nan": np.nan, "inf": np.inf}[label]
        bad = whole_numbers or label != "half"
        return senseless(with_batch(wide)) if bad else either(with_batch(wide))
    if label in ("-1", "class too many", "2**31", "2**40"):
        wide = targets.astype(np.int64) if whole_numbers else wide
        wide.flat[0] = {"-1": -1, "class too many": 3, "2**31": 2**31, "2**40": 2**40}[label]
        return senseless(with_batch(wide)) if whole_numbers else either(with_batch(wide))
    if label in ("bool", "uint8"):
        return either(with_batch(targets.astype(bool if label == "bool" else np.uint8)))
    changed = {
        "one hot": np.eye(3)[np.zeros(len(targets), int)],
        "strings": np.array(["a"] * len(targets)),
        "complex": targets + 1j,
        "two columns": np.stack([targets, targets], axis=-1),
        "object": np.array([None] * len(targets)),
    }[label]
    return senseless(with_batch(changed))
