"""How a module, or what calls it, is told whether it trains."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError

# ``call(module, inputs)``: what is done with a module instead of calling it.
Call = Callable[..., Any]

# The arguments by which Flax modules are told whether they train, and their value if they do.
FLAGS = {"train": True, "training": True, "deterministic": False, "use_running_average": False}


def mode_arguments(
    function: Callable[..., Any], train: bool, *, any_keyword: bool
) -> dict[str, Any]:
    """The arguments that tell a function whether it trains.

    Parameters
    ----------
    function : callable
        Told by whichever of ``train``, ``training``, ``deterministic`` and
        ``use_running_average`` it names.
    train : bool
        What it is told.
    any_keyword : bool
        Whether ``**kwargs`` counts as ``train``.
    """
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters}
    if any_keyword and any(p.kind is p.VAR_KEYWORD for p in parameters):
        names.add("train")
    return {name: train == trains for name, trains in FLAGS.items() if name in names}


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name."""
    return name in inspect.signature(function).parameters


def checked_call(call: Any, argument: str = "call") -> Call | None:
    """The argument, if it can be called with a module and inputs.

    Raises
    ------
    InvalidArgumentError
        If it cannot.
    """
    if call is None:
        return None
    if callable(call) and not inspect.isclass(call):
        try:
            inspect.signature(call).bind(
                None, None, **{name: None for name in (*FLAGS, "rngs") if takes(call, name)}
            )
        except (TypeError, ValueError):
            pass
        else:
            made: Call = call
            return made
    raise InvalidArgumentError(
        f"{argument} is {shown(call)}; give a function (module, inputs) that returns the outputs, "
        "such as lambda module, inputs: module.encode(inputs)"
    )


def is_closure(call: Call | None) -> bool:
    """Whether a function may hold arrays of its own."""
    return isinstance(call, FunctionType) and call.__closure__ is not None
