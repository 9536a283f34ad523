"""NNX filters as questions about one parameter; NNX itself is not imported for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hoarfrost.network.recognise import loaded_nnx
from hoarfrost.types import Path

Predicate = Callable[[Path, Any], bool]


def nnx_predicate(selector: Any) -> Predicate | None:
    """What an NNX filter asks of a path and a variable; None for anything that is no filter.

    A class of variables, ``...``, or what `flax.nnx` makes: ``PathContains``, ``All``, ``Not``.
    """
    nnx = loaded_nnx()
    if selector is ...:
        return lambda path, variable: True
    if nnx is None:
        return None
    of_class = inspect.isclass(selector) and issubclass(selector, nnx.Variable)
    if not of_class and not type(selector).__module__.startswith("flax.nnx.filterlib"):
        return None
    predicate: Predicate = nnx.filterlib.to_predicate(selector)
    return predicate


def asks_for_class(predicate: Any) -> bool:
    """Whether an NNX filter looks at more than the path, on which only NNX parameters answer."""
    nnx = loaded_nnx()
    if nnx is None:
        return False
    parts = [*getattr(predicate, "predicates", ()), getattr(predicate, "predicate", None)]
    return isinstance(predicate, nnx.filterlib.OfType | nnx.filterlib.WithTag) or any(
        asks_for_class(part) for part in parts if part is not None
    )
