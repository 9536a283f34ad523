"""Which parameters share a prior precision while it is tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import is_choice
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.types import Tree

STRUCTURES = ("scalar", "layerwise", "weights_biases", "diagonal")


@dataclass(frozen=True, eq=False)
class PriorGroups:
    """Groups of parameters, each with one precision.

    Attributes
    ----------
    structure : str
        The word by which a user asks for them.
    index : ndarray
        Group of each parameter in the order of `ravel_pytree`, shape ``(P,)``, int64.
    trainable : tree
        The trainable tree.
    """

    structure: str
    index: np.ndarray
    trainable: Tree

    @property
    def size(self) -> int:
        """How many groups there are."""
        return int(self.index[-1] if self.structure == "diagonal" else self.index.max()) + 1

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sums of one number a parameter over each group, shape ``(G,)``."""
        return np.bincount(self.index, weights=values, minlength=self.size)

    def value(self, precision: np.ndarray) -> Any:
        """A prior precision as users give it, from one number a group."""
        if self.structure == "scalar":
            return float(precision[0])
        leaves, treedef = jax.tree.flatten(self.trainable)
        made, start = [], 0
        for leaf in leaves:
            own = precision[self.index[start : start + leaf.size]]
            start += leaf.size
            whole = self.structure == "diagonal"
            made.append(own.reshape(leaf.shape) if whole or leaf.size == 0 else float(own[0]))
        return jax.tree.unflatten(treedef, made)


def prior_groups(structure: Any, trainable: Tree) -> PriorGroups:
    """The groups of a structure.

    Parameters
    ----------
    structure : {"scalar", "layerwise", "weights_biases", "diagonal"}
        One group; one a layer (leaves with the same parent); the leaves with two axes or more and
        those with fewer; one a parameter.

    Raises
    ------
    InvalidArgumentError
        If it is none of these.
    """
    if not is_choice(structure, STRUCTURES):
        raise InvalidArgumentError(
            f"structure is {structure!r}; give one of {', '.join(map(repr, STRUCTURES))}"
        )
    leaves = jax.tree_util.tree_flatten_with_path(trainable)[0]
    if structure == "diagonal":
        return PriorGroups(structure, np.arange(sum(leaf.size for _, leaf in leaves)), trainable)
    key: Callable[[Any, Any], Any] = {
        "scalar": lambda path, leaf: None,
        "layerwise": lambda path, leaf: path[:-1],
        "weights_biases": lambda path, leaf: leaf.ndim >= 2,
    }[structure]
    # Leaves that hold no number belong to no group.
    keys = [key(path, leaf) for path, leaf in leaves if leaf.size]
    number = {name: index for index, name in enumerate(dict.fromkeys(keys))}
    sizes = [leaf.size for _, leaf in leaves if leaf.size]
    return PriorGroups(structure, np.repeat([number[name] for name in keys], sizes), trainable)
