"""What comes after the frozen part of a network: a network of what that part gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun

from hoarfrost.errors import ShapeError, StructureError
from hoarfrost.network.base import Network
from hoarfrost.network.keyed import settle
from hoarfrost.network.programs import NetworkProgram
from hoarfrost.network.split import Split, split
from hoarfrost.network.traced import form_of
from hoarfrost.types import Path, Tree


@dataclass(frozen=True)
class PointForm:
    """One input of a network, leading axis 1, by its shapes and dtypes; hashable."""

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, point: Tree) -> PointForm:
        """That of a tree of jax.ShapeDtypeStruct."""
        leaves, structure = jax.tree.flatten(point)
        return cls(structure, tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves))

    @property
    def tree(self) -> Tree:
        """The tree of jax.ShapeDtypeStruct."""
        made: Any = jax.ShapeDtypeStruct
        return self.structure.unflatten([made(*leaf) for leaf in self.leaves])


@dataclass(frozen=True)
class TailNetwork:
    """The part of a network that depends on its trainable parameters, in evaluation mode.

    Inputs are the tuple of arrays that `kept_outputs` gives, axis 0 over the points; parameters
    and collections are those of the whole network. It holds no program of its own: where one of it
    is traced, the network is traced for one point and cut, so that it changes where the network
    does.

    Attributes
    ----------
    network : Network
        The whole one.
    trainable : tuple of bool
        Whether each leaf of the parameters is trainable, in tree order.
    point : PointForm
        One input of the whole network.
    """

    network: Network
    trainable: tuple[bool, ...]
    point: PointForm

    @property
    def owner(self) -> object | None:
        """That of the whole network."""
        return self.network.owner

    @property
    def unowned(self) -> TailNetwork:
        """The same of a network that holds nothing."""
        return TailNetwork(self.network.unowned, self.trainable, self.point)

    def settle(self) -> None:
        """Say that a program of this network was just traced."""
        settle(self.network)

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """As the whole network does."""
        return self.network.split(variables)

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """As the whole network does."""
        return self.network.join(params, mutable)

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs ``(B, ...)``.

        Raises
        ------
        ShapeError
            If the inputs are not what the frozen part gives.
        StructureError
            If the network cannot be cut any more: it has changed.
        """
        found = self.cut(params, mutable)
        if isinstance(found, str):
            raise StructureError(f"the network has changed while it was in use: {found}")
        shapes = [tuple(leaf.shape[1:]) for leaf in jax.tree.leaves(inputs)]
        wanted = [tuple(form.shape) for form in found.kept]
        if shapes != wanted:
            raise ShapeError(
                f"inputs have shapes {shapes} beyond axis 0, and what the frozen part of the "
                f"network gives has {wanted}"
            )
        run, others = jaxpr_as_fun(found.tail), jax.tree.leaves((params, mutable))

        def one(kept: tuple[jax.Array, ...]) -> jax.Array:
            outputs: jax.Array = run(*others, *kept)[0][0]
            return outputs

        return jax.vmap(one)(tuple(inputs))

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """As `evaluate`: it stands for networks that run in evaluation mode."""
        return self.evaluate(params, mutable, inputs), mutable

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Nothing in it waits for another mode."""
        return ()

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """It moves nothing."""
        return (False,) * len(jax.tree.leaves(mutable))

    def cut(self, params: Tree, mutable: Tree) -> Split | str:
        """The network's program for one point, cut in two, or why it cannot be."""
        leaves, structure = jax.tree.flatten((params, mutable))
        points, inputs = jax.tree.flatten(self.point.tree)
        num_mutable = len(leaves) - len(self.trainable)

        def outputs_of(others: list[jax.Array], points: list[jax.Array]) -> jax.Array:
            params, mutable = jax.tree.unflatten(structure, others)
            return self.network.evaluate(params, mutable, jax.tree.unflatten(inputs, points))

        program = jax.make_jaxpr(outputs_of)(list(map(form_of, leaves)), points)
        if program.out_avals[0].shape[:1] != (1,):
            return "its outputs for one point have no axis of length 1 over the points"
        return split(program, (*self.trainable, *(False,) * num_mutable), len(points))


def _kept_outputs(network: TailNetwork, params: Tree, mutable: Tree, inputs: Tree) -> Any:
    found = network.cut(params, mutable)
    if isinstance(found, str):
        raise StructureError(f"the frozen part of the network cannot be run alone: {found}")
    run, others = jaxpr_as_fun(found.head), jax.tree.leaves((params, mutable))

    def one(example: list[jax.Array]) -> tuple[jax.Array, ...]:
        return tuple(run(*others, *(leaf[None] for leaf in example)))

    return jax.vmap(one)(jax.tree.leaves(inputs))


# (tail, params, mutable, inputs of the whole network) -> what the frozen part gives, axis 0 over
# the points, for the tail.
kept_outputs = NetworkProgram(_kept_outputs)
