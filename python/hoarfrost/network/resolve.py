"""What a user gives as a model, as a network."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network.base import Network
from hoarfrost.network.function import FunctionNetwork, partial_network
from hoarfrost.network.given import linen_network
from hoarfrost.network.keys import interned
from hoarfrost.network.modes import checked_call
from hoarfrost.network.recognise import is_nnx_constructor, is_nnx_module
from hoarfrost.types import Tree, join, path_of


def as_network(model: Any, params: Tree, call: Any = None) -> tuple[Network, Tree, Tree]:
    """A model and what it was trained to, as ``(network, params, mutable)``.

    Parameters
    ----------
    model : flax.linen.Module, flax.nnx.Module, callable or Network
        A module, a function ``apply(params, inputs)``, or a network. Arrays that a
        `jax.tree_util.Partial` binds are frozen parameters; those that a closure binds are
        constants of its programs, and go with it.
    params : tree
        For a Linen module its variables (``{"params": ..., "batch_stats": ...}``) or its "params"
        alone; for an NNX module None (its own), or its parameters and statistics; for a function
        its parameters; for a network what its `split` takes.
    call : callable, optional
        ``call(module, inputs)``, done with a module instead of calling it.

    Raises
    ------
    InvalidArgumentError
        If `model` is none of these, the others do not fit it, or a leaf of `params` is no array of
        numbers.
    """
    call = checked_call(call)
    if is_nnx_module(model) or is_nnx_constructor(model):
        from hoarfrost.network.nnx_module import nnx_network, with_given

        made, own = nnx_network(model, call)
        return (interned(made), *made.split(with_given(made, own, params)))
    params = _sound_parameters(params)
    if isinstance(model, nn.Module):
        whole = isinstance(params, Mapping) and isinstance(params.get("params"), Mapping)
        network: Network = linen_network(model, call, bare=not whole)
        return (network, *network.split(params))
    if call is not None:
        raise InvalidArgumentError(
            f"call is {shown(call)}, but model is no module; leave it out, and let the function "
            "apply(params, inputs) do what call does"
        )
    if isinstance(model, jax.tree_util.Partial):
        network, arrays = partial_network(model)
        return interned(network), params, arrays
    if isinstance(model, Network) and not inspect.isclass(model):
        network = model
    elif callable(model) and not inspect.isclass(model):
        network = FunctionNetwork(model)
    else:
        described = f"the class {model.__name__}" if inspect.isclass(model) else repr(model)
        raise InvalidArgumentError(
            f"model is {described}; give an instance of a flax.linen.Module or flax.nnx.Module, or "
            "a function apply(params, inputs) -> outputs"
        )
    return (interned(network), *network.split(params))


def _sound_parameters(params: Tree) -> Tree:
    """The parameters in the byte order of this machine, if all are arrays of numbers."""
    try:
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    except ValueError as error:  # keys of a dict that have no order
        raise InvalidArgumentError(f"params is no tree that JAX can go over: {error}") from error
    for path, leaf in leaves:
        name = join(path_of(path))
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise InvalidArgumentError(
                f"the parameter {name!r} is {leaf!r}, a {type(leaf).__name__}; give an array, as "
                "jnp.asarray makes one of a number"
            )
        if getattr(leaf.dtype, "kind", "") in "OSUMm" or leaf.dtype in (np.longdouble, np.void):
            raise InvalidArgumentError(
                f"the parameter {name!r} has dtype {leaf.dtype}; give an array of numbers"
            )
    if all(getattr(leaf.dtype, "isnative", True) for _, leaf in leaves):
        return params
    return jax.tree.map(
        lambda leaf: (
            leaf.astype(leaf.dtype.newbyteorder("=")) if isinstance(leaf, np.ndarray) else leaf
        ),
        params,
    )
