"""A network at its parameters, some of which are trainable."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax

from hoarfrost.freezing.partition import Partition
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False)
class Subset:
    """A subset of the parameters of a network, with all that is needed to evaluate it.

    Attributes
    ----------
    network, partition : Network, Partition
        What is compiled into a program.
    params, mutable : trees
        The full parameters and the other collections; arguments of a program.
    """

    network: Network
    partition: Partition
    params: Tree
    mutable: Tree

    @functools.cached_property
    def trainable(self) -> Tree:
        """The trainable tree."""
        return self.partition.split(self.params)[0]

    @property
    def frozen(self) -> Tree:
        """The frozen tree."""
        return self.partition.split(self.params)[1]

    def output_shape(self, inputs: Tree) -> tuple[int, ...]:
        """Shape of the outputs in evaluation mode, from shapes alone: traced, never run."""
        outputs = _evaluation.eval_shape(self.network, self.params, self.mutable, inputs)
        return tuple(outputs.shape)


def _evaluate(network: Network, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
    return network.evaluate(params, mutable, inputs)


_evaluation = NetworkProgram(_evaluate)
