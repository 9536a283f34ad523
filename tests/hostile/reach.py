"""Every public callable with the right call of it: the options tables, and what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from agreement import Oracle
from entries import Elsewhere, Inert, Later, Other, Pair, Subject, arguments_of, parameters_of
from kinds import kind_of
from oracles import ORACLES

# What a model's calibration left, where the tables have only a wrong one.
CALIBRATION = {"output_calibrator": {"params": {"log_temp": np.zeros(1, np.float32)}}}


@dataclass(frozen=True)
class Place:
    """One argument of one public callable, and a right value of it in a right call."""

    name: str
    argument: str
    kind: str
    right: Any
    call: Callable[[Any], Any]
    base: Callable[[], Any]
    oracle: Oracle | None
    optional: bool


def subjects() -> dict[str, Subject]:
    """All rows: those of the options tables first."""
    from core_subjects import CORE
    from more_subjects import MORE
    from test_nothing_is_missing import TABLE

    # Of a likelihood the table has a log-density in float32, and a fit has one in float64.
    return {**MORE, **TABLE, **CORE, "Gaussian": MORE["Gaussian"]}


def place(name: str, subject: Subject, argument: str) -> Place:
    """Where a hostile value is given: the other arguments are right, and let this one act."""
    entry = subject.entries.get(argument)
    given = dict(subject.base())
    if isinstance(entry, Pair):
        given |= entry.first
        given |= {key: value for key, value in entry.second.items() if key != argument}
        given.setdefault(argument, entry.second.get(argument))
    right = given.get(argument)
    if right is None and isinstance(entry, Other | Inert):
        right = entry.value
    if right is None and isinstance(entry, Elsewhere):
        right = entry.second
    if isinstance(right, Later):
        right = right.make()
    kind = kind_of(name, argument)
    if kind == "tree" and not isinstance(right, dict):
        right = CALIBRATION if argument == "calib_params" else {}

    def call(value: Any) -> Any:
        return subject.run(**{**given, argument: value})

    def base() -> Any:
        return subject.run(**subject.base())

    oracle = (lambda given, result: "") if kind == "anything" else ORACLES.get(name)
    parameter = parameters_of(subject.documented)[argument]
    optional = parameter.default is None or "None" in str(parameter.annotation)
    bound = (
        None
        if oracle is None
        else (lambda value, result: oracle({**given, argument: value}, result))
    )
    return Place(name, argument, kind, right, call, base, bound, optional)


def places() -> list[tuple[str, str]]:
    """Every (public name, argument)."""
    return [
        (name, argument)
        for name, subject in subjects().items()
        for argument in arguments_of(subject.documented)
    ]
