"""A network at its parameters, some of which are trainable."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.devices import ANYWHERE, Devices
from hoarfrost.dtypes import is_real_array
from hoarfrost.errors import InvalidArgumentError, SelectionError, ShapeError
from hoarfrost.freezing.partition import Partition
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.types import Array, Tree, join, path_of


@dataclass(frozen=True, eq=False)
class Subset:
    """A subset of the parameters of a network, with all that is needed to evaluate it.

    Attributes
    ----------
    network, partition : Network, Partition
        What is compiled into a program.
    params, mutable : trees
        The full parameters and the other collections; arguments of a program.
    devices : Devices
        Where programs run.
    """

    network: Network
    partition: Partition
    params: Tree
    mutable: Tree
    devices: Devices = ANYWHERE

    def placed(self) -> Subset:
        """The same with its arrays on its devices, once for all that is run there."""
        params, mutable = self.devices.whole((self.params, self.mutable))
        return replace(self, params=params, mutable=mutable)

    @functools.cached_property
    def trainable(self) -> Tree:
        """The trainable tree."""
        return self.partition.split(self.params)[0]

    @functools.cached_property
    def known(self) -> dict[Any, Any]:
        """What was found out about the subset, and costs much to find again."""
        return {}

    @property
    def frozen(self) -> Tree:
        """The frozen tree."""
        return self.partition.split(self.params)[1]

    def shaped(self, vectors: Array) -> Tree:
        """Vectors over the trainable parameters, ``(S, P)``, as a tree with leading axes S."""
        leaves, treedef = jax.tree.flatten(self.trainable)
        parts = np.split(vectors, np.cumsum([leaf.size for leaf in leaves])[:-1], axis=1)
        shaped = [
            part.reshape(len(part), *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
        ]
        return jax.tree.unflatten(treedef, shaped)

    def merged(self, tree: Tree) -> Tree:
        """The full parameters with these trainable leaves, in which leading axes are kept.

        Raises
        ------
        ShapeError
            If a leaf is not of the shape of the parameter that it stands for, leading axes apart.
        SelectionError
            If a leaf is missing, or is none of the trainable ones.
        InvalidArgumentError
            If a leaf is no array of real numbers.
        """
        given = {path_of(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for place, leaf in given.items():
            if not is_real_array(leaf):
                raise InvalidArgumentError(
                    f"tree at {join(place)!r} is {shown(leaf)}; give an array of real numbers"
                )
        extra = set(given).difference(self.partition.trainable_paths)
        if extra:
            raise SelectionError(
                f"tree has a leaf at {join(min(extra, key=str))!r}, which is no trainable "
                "parameter; give a tree such as one draw of sample()"
            )
        merged = self.partition.merge(tree, self.frozen)
        for path, own in jax.tree_util.tree_leaves_with_path(self.trainable):
            shape = np.shape(given[path_of(path)])
            if shape[len(shape) - own.ndim :] != own.shape:
                raise ShapeError(
                    f"tree{jax.tree_util.keystr(path)} has shape {shape}, but the parameter has "
                    f"shape {own.shape}; give a tree such as one draw of sample()"
                )
        return merged

    def output_shape(self, inputs: Tree) -> tuple[int, ...]:
        """Shape of the outputs in evaluation mode, from shapes alone: traced, never run."""
        outputs = _evaluation.eval_shape(self.network, self.params, self.mutable, inputs)
        return tuple(outputs.shape)


def _evaluate(network: Network, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
    return network.evaluate(params, mutable, inputs)


_evaluation = NetworkProgram(_evaluate)
