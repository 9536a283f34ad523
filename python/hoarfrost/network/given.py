"""A module as a user gave it: its network, and where its variables come from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network.base import Network
from hoarfrost.network.keys import interned
from hoarfrost.network.linen import LinenNetwork, init_linen
from hoarfrost.network.modes import Call, checked_call, takes
from hoarfrost.network.nested import by_path, nested
from hoarfrost.network.recognise import is_nnx_constructor, is_nnx_module
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False)
class GivenModule:
    """A Linen module, an NNX module, or what makes NNX modules.

    Attributes
    ----------
    model : Any
        As it was given; an NNX module is read when variables are asked for, and never written.
    network : Network
        The module as a pure function.
    call : callable or None
        What is done with the module instead of calling it.
    argument : str
        What the user calls it; errors say it.
    """

    model: Any
    network: Network
    call: Call | None
    argument: str

    @property
    def starts_anew(self) -> bool:
        """Whether variables are drawn, not read from the module."""
        return not is_nnx_module(self.model) or self._has_shapes_alone

    @functools.cached_property
    def _has_shapes_alone(self) -> bool:
        """Whether it is an NNX module of `nnx.eval_shape`."""
        if not is_nnx_module(self.model):
            return False
        from hoarfrost.network.nnx_module import nnx_network

        network, own = nnx_network(self.model, self.call, argument=self.argument, warn=False)
        return bool(network.kinds) and not own

    @property
    def needs_inputs(self) -> bool:
        """Whether the shapes of its variables are known from inputs alone."""
        return isinstance(self.model, nn.Module)

    def variables(self, inputs: Tree, params_key: jax.Array, other_key: jax.Array) -> Tree:
        """What training starts from, as the network's `split` takes it.

        Parameters
        ----------
        inputs : array or tree of arrays
            As for `init_linen`; NNX needs none.
        params_key, other_key : jax.Array
            Keys of the "params" stream, and of "dropout" (Linen) or all others (NNX). An NNX
            module has its variables already.
        """
        if isinstance(self.model, nn.Module):
            return init_linen(self.model, inputs, params_key, other_key, self.call)
        from hoarfrost.network.nnx_module import new_values, nnx_network, with_given

        if not is_nnx_module(self.model):
            return new_values(self.model, params_key, other_key, self.argument)
        network, own = nnx_network(self.model, self.call, argument=self.argument, warn=False)
        if network != self.network:
            raise InvalidArgumentError(
                f"{self.argument} is not what it was when this model was made: its layers or their "
                "settings have changed; make the model again"
            )
        if self._has_shapes_alone:
            from hoarfrost.network.nnx_defaults import default_values

            return default_values(self.model, network, params_key, self.argument)
        return with_given(network, own, None)

    def given_variables(self, tree: Tree, collections: Tree | None) -> Tree:
        """A user's values, as the network's `split` takes them.

        Parameters
        ----------
        tree : nested dict or flax.nnx.State
            Of Linen all variables, or "params" alone; of NNX parameters, and statistics if need be.
        collections : nested dict, optional
            Other collections, as the network's `split` gives them.

        Raises
        ------
        InvalidArgumentError
            If something is missing from it, or the module has nothing at a path.
        """
        if isinstance(self.model, nn.Module):
            whole = isinstance(tree.get("params"), Mapping)
            variables = {**(tree if whole else {"params": tree}), **(collections or {})}
            for name, collection in variables.items():
                if not isinstance(name, str) or not isinstance(collection, Mapping):
                    raise InvalidArgumentError(
                        f"the collection {name!r} of {self.argument} is {shown(collection)}; give "
                        'a nested dict, as in {"params": ..., "batch_stats": ...}'
                    )
            return variables
        from hoarfrost.network.nnx_module import nnx_network, with_given

        network, own = nnx_network(self.model, self.call, argument=self.argument, warn=False)
        values = by_path(tree)
        for group in (collections or {}).values():
            values |= by_path(group)
        return with_given(network, own, nested(values))

    def of_module(self, variables: Tree) -> Tree:
        """Variables of the network as those of the module that the user holds."""
        return variables


def given_module(
    model: Any, call: Any = None, *, argument: str = "model", call_argument: str = "call"
) -> GivenModule:
    """A module of a probabilistic model.

    Parameters
    ----------
    model : flax.linen.Module, flax.nnx.Module or callable
        A module, or what makes an NNX module when it is called with ``rngs=``.
    call : callable, optional
        ``call(module, inputs)``, done instead of calling the module.
    argument, call_argument : str
        What the user calls `model` and `call`; errors say it.

    Raises
    ------
    InvalidArgumentError
        If it is none of these, or cannot be called so.
    """
    call = checked_call(call, call_argument)
    if isinstance(model, nn.Module):
        return GivenModule(model, linen_network(model, call), call, argument)
    if is_nnx_module(model) or is_nnx_constructor(model):
        from hoarfrost.network.nnx_module import nnx_network

        network, _ = nnx_network(model, call, argument=argument)
        return GivenModule(model, interned(network), call, argument)
    raise InvalidArgumentError(
        f"{argument} is {shown(model)}; give an instance of a flax.linen.Module or "
        "flax.nnx.Module, or a function that makes an NNX module of rngs (for a function of "
        "parameters and inputs use hoarfrost.fit_laplace)"
    )


def linen_network(module: nn.Module, call: Call | None, *, bare: bool = False) -> LinenNetwork:
    """A Linen module as a network, if `call` suits it."""
    if call is not None and takes(call, "rngs"):
        raise InvalidArgumentError(
            "call names rngs, which only NNX modules are given; a Linen module draws its keys by "
            "make_rng"
        )
    return interned(LinenNetwork(module, bare=bare, call=call))
