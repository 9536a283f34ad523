"""Which network features are of: told by a fingerprint, never by their shape."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing.partition import Partition
from hoarfrost.freezing.subset import Subset
from hoarfrost.network.dense import DenseLayer, DenseNetwork, Origin
from hoarfrost.network.traced import fingerprint, training_changes
from hoarfrost.types import Tree, join, path_of

_REMEDY = "make them anew: hoarfrost.features(model, params, loader, trainable=...)"


def fingerprint_of(subset: Subset, point: Tree) -> str:
    """Of all that the inputs of a subset's last layer depend on; found once for a subset."""
    key = "fingerprint", _key(subset, point)
    if key not in subset.known:
        mask = subset.partition.mask
        found = fingerprint(subset.network, subset.params, subset.mutable, point, mask)
        subset.known[key] = found
    known: str = subset.known[key]
    return known


def layer_partition(params: Tree, layer: DenseLayer, argument: str) -> Partition:
    """The partition in which the layer of some features is trainable.

    Raises
    ------
    InvalidArgumentError
        If the parameters are not as many as those of the network of the features.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    if len(flat) != layer.num_leaves:
        raise InvalidArgumentError(
            f"{argument} holds features of a network with {layer.num_leaves} parameter "
            f"arrays, and this one has {len(flat)}; {_REMEDY}"
        )
    return Partition(treedef, tuple(path_of(key) for key, _ in flat), layer.mask)


def over_features(subset: Subset, origin: Origin, argument: str) -> Subset:
    """The layer alone as a subset of the same parameters, to be given features.

    Parameters
    ----------
    subset : Subset
        The whole network.
    origin : Origin
        What the features are of.
    argument : str
        What the user calls the features; errors say it.

    Raises
    ------
    InvalidArgumentError
        If the features are those of other leaves, another network, or other frozen parameters.
    """
    partition = subset.partition
    if partition.mask != origin.layer.mask:
        own = ", ".join(map(join, partition.trainable_paths[:4]))
        raise InvalidArgumentError(
            f"{argument} holds features of another layer than the one that is trainable here "
            f"({own}{', ...' if len(partition.trainable_paths) > 4 else ''}); select that layer "
            f"(trainable='last_layer'), or {_REMEDY}"
        )
    if fingerprint_of(subset, origin.point) != origin.fingerprint:
        raise InvalidArgumentError(
            f"{argument} holds features of another network, or under other frozen parameters; "
            f"{_REMEDY}"
        )
    return dataclasses.replace(subset, network=DenseNetwork(origin.layer))


def why_not_in_training(subset: Subset, point: Tree) -> str | None:
    """Why features cannot stand for the frozen part while its layer trains; None where they can.

    Features are made in evaluation mode.
    """
    key = "training", _key(subset, point)
    if key not in subset.known:
        by_path = subset.partition.by_path
        found = training_changes(subset.network, subset.params, subset.mutable, point, by_path)
        subset.known[key] = found
    known: str | None = subset.known[key]
    return known


def _key(subset: Subset, point: Tree) -> tuple[Any, ...]:
    """A program as it is now: what a network reads, a closure's array say, may change."""
    leaves, structure = jax.tree.flatten(point)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    return subset.network.unowned, structure, shapes
