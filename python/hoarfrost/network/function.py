"""A plain function as a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from hoarfrost.network.base import first_array, hash_of, same
from hoarfrost.types import Path, Tree


@dataclass(frozen=True, eq=False)
class FunctionNetwork:
    """A function ``apply(params, inputs) -> outputs`` as a network without collections."""

    function: Callable[[Tree, Tree], Any]

    def __hash__(self) -> int:
        return hash((type(self), hash_of(self.function)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FunctionNetwork):
            return NotImplemented
        return same(self.function, other.function)

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """``function(params, inputs)``."""
        name = getattr(self.function, "__name__", repr(self.function))
        return first_array(self.function(params, inputs), name)

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
