"""What a user gave for a model, told apart without importing a library that they do not use."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any


def loaded_nnx() -> Any:
    """`flax.nnx` where somebody has imported it, else None: without it nothing of it exists."""
    return sys.modules.get("flax.nnx")


def is_nnx_module(model: Any) -> bool:
    """Whether `model` is an instance of a `flax.nnx.Module`."""
    module = getattr(loaded_nnx(), "Module", None)
    return module is not None and isinstance(model, module)


def is_nnx_variable(value: Any) -> bool:
    """Whether `value` is a variable of NNX, as the leaves of a State are."""
    variable = getattr(loaded_nnx(), "Variable", None)
    return variable is not None and isinstance(value, variable)


def nnx_value(leaf: Any) -> Any:
    """The array of an NNX variable; anything else as it is."""
    if not is_nnx_variable(leaf):
        return leaf
    # `value` is what it was called before Flax 0.12.
    return leaf.get_value() if hasattr(leaf, "get_value") else leaf.value


def is_nnx_constructor(model: Any) -> bool:
    """Whether `model` makes NNX modules: called as ``model(rngs=nnx.Rngs(...))``.

    A class of them, a `functools.partial` of one, or a function that cannot be called without
    `rngs` and needs nothing else.
    """
    module = getattr(loaded_nnx(), "Module", None)
    if module is None or not callable(model) or is_nnx_module(model):
        return False
    made = model
    while isinstance(made, functools.partial):
        made = made.func
    if inspect.isclass(made):
        return issubclass(made, module)
    if not inspect.isfunction(made):
        return False
    needed = [
        p.name
        for p in inspect.signature(model).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return needed == ["rngs"]
