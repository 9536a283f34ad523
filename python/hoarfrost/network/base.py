"""What the rest of the package asks of a network.

A network is a small frozen object, hashable, so that it can be a static argument of a jitted
program; everything that changes (parameters, running statistics, inputs, keys) is passed as an
argument. Parameters live in ``params``; every other collection of a module (``batch_stats``, ...)
lives in ``mutable``, an empty dict where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.types import Path, Tree


@runtime_checkable
class Network(Protocol):
    """A pure function of parameters and inputs, in evaluation and in training mode."""

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(batch, ...)``."""

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode, and the collections as that pass left them."""

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """What a user holds for this network, as ``(params, mutable)``."""

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """What a user holds for this network again, from ``(params, mutable)``."""

    @property
    def owner(self) -> object | None:
        """What compiled programs must not outlive, as it may hold arrays; None where nothing may.

        It can be referred to weakly.
        """

    @property
    def unowned(self) -> Network:
        """The same network for a program, which does not keep `owner` alive."""

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Layers with a training mode that `train` does not put into it, for a warning."""

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """Which leaves of `mutable` training updates, in tree order.

        `trainable` says for the path of each parameter whether it is trained.
        """


def first_array(outputs: Any, name: str) -> jax.Array:
    """The outputs of a model called `name`: an array, or the first item of a tuple.

    Raises
    ------
    InvalidArgumentError
        If that is no array.
    """
    if isinstance(outputs, tuple) and outputs:
        outputs = outputs[0]
    if not hasattr(outputs, "shape"):
        raise InvalidArgumentError(
            f"the model {name} returned {type(outputs).__name__}; it must return an array "
            "of shape (batch, outputs), or a tuple whose first item is one"
        )
    array: jax.Array = outputs
    return array
