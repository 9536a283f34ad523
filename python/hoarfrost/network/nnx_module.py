"""A user's NNX module: read without a trace, and written to when it is asked for."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.network.modes import FLAGS, Call
from hoarfrost.network.nested import by_path, nested
from hoarfrost.network.nnx import NnxNetwork
from hoarfrost.network.recognise import nnx_value
from hoarfrost.types import Path, Tree, join


def nnx_network(
    model: Any, call: Call | None = None, *, argument: str = "model", warn: bool = True
) -> tuple[NnxNetwork, dict[Path, Any]]:
    """A module as a network, and its present values by their paths.

    The module's variables are read, never written; the values are its arrays, not its variables.

    Parameters
    ----------
    model : flax.nnx.Module or callable
        A module, or what makes one when it is called with ``rngs=``; of that, and of a module made
        by `nnx.eval_shape`, there are no values.
    call : callable, optional
        As in `NnxNetwork`.
    warn : bool
        Whether to name the modules whose mode cannot be switched.

    Raises
    ------
    InvalidArgumentError
        If a variable is at two places and NNX is in tree mode, which has no shared variables, or
        one holds a dict.
    """
    module = model
    if not isinstance(model, nnx.Module):
        module = nnx.eval_shape(lambda: made(model, nnx.Rngs(0), argument))
    try:
        evaluation, state = nnx.split(_in_mode(module, False))
        training, _ = nnx.split(_in_mode(module, True))
    except ValueError as error:
        places = _shared(module)
        if not places:
            raise
        raise InvalidArgumentError(
            f"{argument} has the same variable at {places}, and NNX in tree mode cannot share "
            "variables; give each layer its own, or use nnx.set_graph_mode(True)"
        ) from error
    if warn:
        _warn_of_fixed_modes(module)
    variables = by_path(state)
    kinds = {path: type(leaf) for path, leaf in variables.items()}
    values = {path: nnx_value(leaf) for path, leaf in variables.items()}
    for path, value in values.items():
        if isinstance(value, Mapping):
            raise InvalidArgumentError(
                f"{argument} has a variable at {join(path)!r} that holds a dict; give each array a "
                "variable of its own, in an nnx.Dict"
            )
    classes = tuple(dict.fromkeys(type(layer) for _, layer in modules_in(module)))
    network = NnxNetwork(type(module).__name__, evaluation, training, kinds, classes, call)
    if any(isinstance(value, jax.ShapeDtypeStruct) for value in values.values()):
        values = {}
    return network, values


def with_given(network: NnxNetwork, own: Mapping[Path, Any], given: Any) -> Tree:
    """The values of a module with those of a user in their place.

    Parameters
    ----------
    network : NnxNetwork
        The module as a network.
    own : mapping of path to array
        What the module holds; empty where it holds no values.
    given : nested dict or flax.nnx.State, optional
        Every parameter and running statistic, and what else there is; None: those of the module.

    Returns
    -------
    dict
        The nested dict of all values.

    Raises
    ------
    InvalidArgumentError
        If something is missing, or the module has nothing at a path.
    """
    if given is None:
        return nested(network.with_missing_state(own))
    if not isinstance(given, Mapping):
        raise InvalidArgumentError(
            f"params is a {type(given).__name__}; give the nested dict of an NNX module's "
            "parameters, an nnx.State, or None for those that the module holds"
        )
    values = {path: nnx_value(leaf) for path, leaf in by_path(given).items()}
    unknown = [path for path in values if path not in network.kinds]
    needed = (*network.param_kinds, *network.statistics)
    missing = [path for path in needed if path not in values]
    if unknown or missing:
        parts = [
            f"{what} {', '.join(map(join, paths[:5]))}"
            for what, paths in (("it lacks", missing), ("the module has nothing at", unknown))
            if paths
        ]
        raise InvalidArgumentError(
            f"params does not fit {network.name}: {'; '.join(parts)}; give all parameters and "
            "running statistics, as nnx.state(module, (nnx.Param, nnx.BatchStat)) has them, or None"
        )
    return nested(network.with_missing_state({**own, **values}))


def new_values(model: Any, params_key: jax.Array, other_key: jax.Array, argument: str) -> Tree:
    """All values of a new module of a constructor, which has these keys.

    It is called with ``rngs=nnx.Rngs(params=params_key, default=other_key)``.
    """
    module = made(model, nnx.Rngs(params=params_key, default=other_key), argument)
    return nnx.to_pure_dict(nnx.state(module))


def made(model: Any, rngs: Any, argument: str) -> Any:
    """What a constructor makes, if that is a module."""
    module = model(rngs=rngs)
    if not isinstance(module, nnx.Module):
        raise InvalidArgumentError(
            f"{argument} made a {type(module).__name__} when it was called with rngs=; give a "
            "function that makes an nnx.Module"
        )
    return module


def write_values(module: Any, values: Tree) -> None:
    """Put values into a module as `write_to_module` says."""
    own = by_path(nnx.to_pure_dict(nnx.state(module)))
    for path, value in by_path(values).items():
        if path not in own:
            raise InvalidArgumentError(
                f"module has no variable at {join(path)!r}; give the module that the "
                "posterior was fitted to, or one like it"
            )
        if np.shape(value) != own[path].shape:
            raise ShapeError(
                f"module has a variable of shape {own[path].shape} at {join(path)!r}, and the "
                f"value has shape {np.shape(value)}; give one draw, without a leading axis"
            )
    nnx.update(module, values)


def _in_mode(module: Any, train: bool) -> Any:
    """The module in one mode; it shares the variables and leaves the user's module as it is."""
    flags = {name: train == trains for name, trains in FLAGS.items()}
    if hasattr(nnx, "view"):
        return nnx.view(module, **flags, raise_if_not_found=False)
    # Before Flax 0.12.5: a copy, whose own attributes can be set.
    graph, state = nnx.split(module)
    copy = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
    (copy.train if train else copy.eval)()
    return copy


def _warn_of_fixed_modes(module: Any) -> None:
    """Name the modules with a mode of their own making, which no view switches."""
    fixed = []
    for path, layer in modules_in(module):
        told = _switches(layer)
        for name in (*FLAGS, "is_training", "inference"):
            if isinstance(getattr(layer, name, None), bool) and name not in told:
                where = join(path) or type(layer).__name__
                fixed.append(f"{where} ({name}={getattr(layer, name)})")
    if fixed:
        warnings.warn(
            f"the mode of {', '.join(fixed)} cannot be switched: it is the same in training and in "
            "evaluation. Give the module a method set_view(self, training=None) that sets it, or "
            "give call, which may name train and set it",
            UserWarning,
            stacklevel=4,
        )


def _switches(layer: Any) -> Collection[str]:
    """The flags of a module that `_in_mode` sets."""
    if not hasattr(nnx, "view"):
        return "deterministic", "use_running_average"
    if not hasattr(layer, "set_view"):
        return ()
    parameters = inspect.signature(layer.set_view).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return (*FLAGS, *parameters) if takes_any else tuple(parameters)


def modules_in(module: Any) -> Iterator[tuple[Path, Any]]:
    """A module and all modules in it, with their paths."""
    if hasattr(nnx, "iter_modules"):
        yield from nnx.iter_modules(module)
        return
    # Before Flax 0.12.
    for path, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Module):
            yield path, node


def _shared(module: Any) -> str:
    """The places of shared variables, for a message; empty where there is none."""
    found = nnx.find_duplicates(module) if hasattr(nnx, "find_duplicates") else []
    return "; ".join(" and ".join(repr(join(path)) for path in places) for places in found)
