"""Every public callable of the package, found by walking from its front."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import hoarfrost

# What public calls hand out, and Fortuna's path of what `prob_model` names.
MORE_MODULES = (
    "hoarfrost.prior",
    "hoarfrost.predictive",
    "hoarfrost.prob_model.posterior",
    "hoarfrost.prob_model.predictive",
    "hoarfrost.prob_model.likelihood",
)


def public_modules() -> Iterator[ModuleType]:
    """The front, the modules that it names (and those that they name), and those handed out."""
    waiting: list[ModuleType] = [hoarfrost, *map(importlib.import_module, MORE_MODULES)]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module.__name__ in seen:
            continue
        seen.add(module.__name__)
        yield module
        names = getattr(module, "__all__", ())
        members = (getattr(module, name) for name in names)
        waiting += [member for member in members if inspect.ismodule(member)]


def names_of(module: ModuleType) -> list[str]:
    """What a module says that it has, or what it defines."""
    defined = [
        name
        for name, member in vars(module).items()
        if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__
    ]
    return list(getattr(module, "__all__", defined))


def public_callables() -> dict[str, Any]:
    """Functions and classes by their names, and their public methods as "Class.method"."""
    found: dict[str, Any] = {}
    for module in public_modules():
        # The ready-made networks have the same names in Linen and in NNX.
        place = module.__name__.removeprefix("hoarfrost").removeprefix(".")
        prefix = f"{place}." if place.startswith("model") else ""
        for name in names_of(module):
            member = getattr(module, name)
            if not callable(member) or inspect.ismodule(member):
                continue
            found[prefix + name] = member
            if inspect.isclass(member):
                for attribute, method in inspect.getmembers(member):
                    if not attribute.startswith("_") and is_ours(method):
                        found[f"{prefix}{name}.{attribute}"] = method
    return found


def is_ours(method: Any) -> bool:
    """Whether a member of a class is a method, and none that Flax gives to every network."""
    function = inspect.isfunction(method) or inspect.ismethod(method)
    return function and method.__module__.startswith(hoarfrost.__name__)
