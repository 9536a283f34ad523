"""What an entry of an options table is, and how it is shown that the argument acts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import hoarfrost
from hoarfrost import data, likelihood, metric, prior, prob_model
from hoarfrost.errors import HoarfrostError
from hoarfrost.methods.problem import problem_of
from hoarfrost.predictive import RegressionPrediction
from hoarfrost.prob_model.posterior import ADVIPosterior, LaplacePosterior, MAPPosterior

# Where the name of a table's row is looked for.
HANDED_OUT = SimpleNamespace(
    RegressionPrediction=RegressionPrediction,
    LaplacePosterior=LaplacePosterior,
    MAPPosterior=MAPPosterior,
    ADVIPosterior=ADVIPosterior,
)
PLACES = (hoarfrost, prob_model, hoarfrost.methods, metric, data, likelihood, prior, HANDED_OUT)


@dataclass(frozen=True)
class Later:
    """A value that takes work to make, and is made when the test runs."""

    make: Callable[[], Any]


@dataclass(frozen=True)
class Other:
    """Another value than that of the base call (or than the default) gives another result."""

    value: Any


@dataclass(frozen=True)
class Pair:
    """Two calls, each the base call with some arguments changed, give different results."""

    first: dict[str, Any]
    second: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """The value is an error of ours, whose message names what is wrong."""

    value: Any
    message: str


@dataclass(frozen=True)
class Inert:
    """The value changes nothing, as the documentation says in these words."""

    value: Any
    words: str


@dataclass(frozen=True)
class Elsewhere:
    """Another run, which takes this argument alone, gives different results for two values."""

    run: Callable[[Any], Any]
    first: Any
    second: Any


Entry = Other | Pair | Refused | Inert | Elsewhere
SECOND: dict[str, Entry] = {"distribute": Inert(False, "the work either way")}


@dataclass(frozen=True)
class Subject:
    """A public callable: how to get a result that can be compared, and an entry per argument."""

    documented: Callable[..., Any]
    run: Callable[..., Any]
    base: Callable[[], dict[str, Any]]
    entries: dict[str, Entry]
    about: str = ""


CACHE: dict[str, Any] = {}


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Made at first use: importing this file starts no work."""
    if name not in CACHE:
        CACHE[name] = make()
    return CACHE[name]


def methods(cls: Any) -> list[tuple[str, Any]]:
    """Public functions of a class that take an argument."""
    found = []
    for name, member in inspect.getmembers(cls):
        function = inspect.isfunction(member) or inspect.ismethod(member)
        if function and not name.startswith("_") and arguments_of(member):
            found.append((name, member))
    return found


def parameters_of(documented: Any) -> dict[str, inspect.Parameter]:
    """By their names; those that all methods share in place of the ``**options`` for them."""
    found = dict(inspect.signature(documented).parameters)
    found.pop("self", None)
    if "options" in found and found["options"].kind is inspect.Parameter.VAR_KEYWORD:
        del found["options"]
        shared = inspect.signature(problem_of).parameters
        found |= {name: one for name, one in shared.items() if one.kind is one.KEYWORD_ONLY}
    return found


def arguments_of(documented: Any) -> list[str]:
    return list(parameters_of(documented))


def built(
    name: str, run: Callable[..., Any], base: Any, /, **entries: Entry
) -> tuple[str, Subject]:
    """A row of a table for a public name, "Class" or "Class.method"."""
    owner, _, attribute = name.partition(".")
    found = next(getattr(place, owner) for place in PLACES if hasattr(place, owner))
    about = found.__doc__ if attribute else ""
    documented = getattr(found, attribute) if attribute else found
    return name, Subject(
        documented, run, base if callable(base) else lambda: base, entries, about or ""
    )


def table(*parts: Iterable[tuple[str, Subject]]) -> dict[str, Subject]:
    """The rows by their names."""
    found = [row for part in parts for row in part]
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def cases(rows: dict[str, Subject]) -> list[Any]:
    """Every argument of every row."""
    return [
        pytest.param(name, argument, id=f"{name}.{argument}")
        for name in rows
        for argument in arguments_of(rows[name].documented)
    ]


def check(name: str, subject: Subject, argument: str) -> None:
    """Fail unless the argument does what its entry says."""
    assert argument in subject.entries, f"{argument} of {name} has no entry in the table"
    entry = subject.entries[argument]
    if isinstance(entry, Elsewhere):
        first = entry.run(entry.first)
        assert same(first, entry.run(entry.first)) and not same(first, entry.run(entry.second))
        return
    base = subject.base()
    if isinstance(entry, Refused):
        with pytest.raises(HoarfrostError, match=entry.message):
            subject.run(**{**base, argument: entry.value})
        return
    if isinstance(entry, Pair):
        first = subject.run(**{**base, **entry.first})
        second = subject.run(**{**base, **entry.second})
    else:
        value = entry.value.make() if isinstance(entry.value, Later) else entry.value
        first = kept(f"result of {name}", lambda: subject.run(**base))
        second = subject.run(**{**base, argument: value})
    assert same(first, second) == isinstance(entry, Inert)
    if isinstance(entry, Inert):
        documentation = " ".join(f"{subject.about} {subject.documented.__doc__}".split())
        assert entry.words in documentation


def same(first: Any, second: Any) -> bool:
    """Whether two results, trees of anything, are equal bit for bit."""
    leaves, structures = zip(*map(jax.tree.flatten, (first, second)), strict=True)
    if structures[0] != structures[1]:
        return False
    return all(
        np.shape(a) == np.shape(b) and np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(*leaves, strict=True)
    )
