"""A plain function as a network."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, cast

import jax
import numpy as np

from hoarfrost.network.base import explained, first_array
from hoarfrost.network.keyed import KeyedNetwork
from hoarfrost.network.keys import identity_of
from hoarfrost.network.reads import Reads
from hoarfrost.types import Path, Tree

# Under which the arrays of a `jax.tree_util.Partial` stand among the collections.
PARTIAL = "partial"


@dataclass(frozen=True, eq=False)
class FunctionNetwork:
    """A function ``apply(params, inputs) -> outputs`` as a network without collections."""

    function: Callable[[Tree, Tree], Any]

    def __hash__(self) -> int:
        return hash((type(self), identity_of(self.function)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FunctionNetwork):
            return NotImplemented
        return bool(identity_of(self.function) == identity_of(other.function))

    @functools.cached_property
    def _reads(self) -> Reads:
        return Reads(self.function)

    @property
    def owner(self) -> object | None:
        """The function, where it is a closure: that may hold arrays."""
        function = self.function
        closure = isinstance(function, FunctionType) and function.__closure__ is not None
        return function if closure else None

    @property
    def unowned(self) -> FunctionNetwork:
        """The function with what it reads, by a weak reference where it is a closure."""
        held = self.function if self.owner is None else _Weakly(self.function)
        return cast(FunctionNetwork, KeyedNetwork(FunctionNetwork(held), self._reads))

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """``function(params, inputs)``."""
        name = name_of(self.function)
        with explained(name, params, inputs):
            outputs = self.function(params, inputs)
        return first_array(outputs, name)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """``function(params, inputs)``: a function has one mode and uses no key."""
        return self.evaluate(params, mutable, inputs), mutable

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """All that a function has is parameters."""
        return variables, {}

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The parameters, with the entries of `mutable` beside them."""
        return {**params, **mutable} if mutable else params

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """A function has one mode: nothing in it waits for another."""
        return ()

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """A function has one mode: it moves nothing."""
        return (False,) * len(jax.tree.leaves(mutable))


@dataclass(frozen=True)
class PartialNetwork:
    """A `jax.tree_util.Partial`, whose arrays are arguments of a program and not its constants.

    Attributes
    ----------
    structure : jax.tree_util.PyTreeDef
        Of the Partial, the function in it.
    settings : tuple
        Its leaves that are no arrays, None in the place of each array.
    """

    structure: Any
    settings: tuple[Any, ...]

    @property
    def owner(self) -> None:
        """None: all arrays are among the collections."""
        return None

    @property
    def unowned(self) -> PartialNetwork:
        """The network with what its function reads; it holds nothing."""
        held = PartialNetwork(self.structure, self.settings)
        return cast(PartialNetwork, KeyedNetwork(held, self._reads))

    @functools.cached_property
    def _reads(self) -> Reads:
        return Reads(jax.tree.unflatten(self.structure, self.settings))

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """The function of the arrays in `mutable`, ``function(params, inputs)``."""
        arrays = iter(mutable[PARTIAL])
        leaves = [next(arrays) if leaf is None else leaf for leaf in self.settings]
        function = jax.tree.unflatten(self.structure, leaves)
        name = name_of(function.func)
        with explained(name, params, inputs):
            outputs = function(params, inputs)
        return first_array(outputs, name)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """As `evaluate`: a function has one mode and uses no key."""
        return self.evaluate(params, mutable, inputs), mutable

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """What a user holds is parameters."""
        return variables, {}

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The parameters, with the entries of `mutable` that are not the Partial's beside them."""
        others = {name: tree for name, tree in mutable.items() if name != PARTIAL}
        return {**params, **others} if others else params

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """A function has one mode: nothing in it waits for another."""
        return ()

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """A function has one mode: it moves nothing."""
        return (False,) * len(jax.tree.leaves(mutable))


def partial_network(function: jax.tree_util.Partial) -> tuple[PartialNetwork, Tree]:
    """A Partial as a network, and its arrays as collections."""
    leaves, structure = jax.tree.flatten(function)
    arrays = [isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves]
    settings = tuple(None if a else leaf for a, leaf in zip(arrays, leaves, strict=True))
    held = tuple(leaf for a, leaf in zip(arrays, leaves, strict=True) if a)
    return PartialNetwork(structure, settings), {PARTIAL: held}


def name_of(function: Any) -> str:
    """What a function is called."""
    name: str = getattr(function, "__name__", repr(function))
    return name


class _Weakly:
    """A function that is called without being kept."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._reference = weakref.ref(function)
        self._hash = hash(function)
        self.__name__ = name_of(function)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Weakly) and self._reference == other._reference

    def __call__(self, params: Tree, inputs: Tree) -> Any:
        """Call it; a program is only traced while the function is there."""
        function = self._reference()
        assert function is not None
        return function(params, inputs)
