"""Whether the frozen part of a network runs once, so that a method goes over its outputs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from hoarfrost.curvature.feature_pass import could_be_head, feature_pass, point_of
from hoarfrost.curvature.feature_store import in_memory
from hoarfrost.data import DataLoader
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.checked import CheckedBatch, data_batches
from hoarfrost.data.features import as_plain, origin_of
from hoarfrost.errors import InvalidArgumentError, StructureError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import over_features
from hoarfrost.memory import available_bytes, format_bytes
from hoarfrost.network.traced import draws_in_training

CacheFeatures = bool | Literal["auto"]

# Of the free memory, what features may take without being asked for.
_SHARE = 4


@dataclass(frozen=True, eq=False)
class Kept:
    """What steps evaluate.

    Attributes
    ----------
    subset, loader : Subset, DataLoader
        The layer and its inputs, or the network and the data.
    trains : bool
        Whether the network runs in training mode.
    said : str
        What was done, and why.
    """

    subset: Subset
    loader: DataLoader
    trains: bool
    said: str


def run_once(subset: Subset, loader: DataLoader, wanted: CacheFeatures, *, progress: bool) -> Kept:
    """The frozen part's outputs, where `wanted` and the network allow it.

    Raises
    ------
    InvalidArgumentError
        If `wanted` is none of True, False and "auto", or True and it cannot be; if the data are
        features of another network.
    """
    if not isinstance(wanted, bool) and wanted != "auto":
        raise InvalidArgumentError(f"cache_features is {wanted!r}; give True, False or 'auto'")
    origin = origin_of(loader)
    if origin is not None:
        layer = over_features(subset, origin, "data_loader")
        return Kept(layer, as_plain(loader), False, "given: the frozen layers are not run")
    first = next(data_batches(loader, masks=True))
    trains = runs_in_training(subset, first)
    found = (
        "cache_features is False"
        if wanted is False
        else _made(subset, loader, first, trains, asked=wanted is True, progress=progress)
    )
    if isinstance(found, Kept):
        return found
    if wanted is True:
        raise InvalidArgumentError(
            f"cache_features is True, but {found}; leave it out, or select the last layer alone "
            "(trainable='last_layer')"
        )
    return Kept(subset, loader, trains, f"not cached: {found}")


def runs_in_training(subset: Subset, first: CheckedBatch) -> bool:
    """Whether the network draws in training, or statistics of what is trained move."""
    moving = subset.network.moving(subset.partition.by_path, subset.mutable)
    if any(moving):
        return True
    point = point_of(first.inputs)
    return draws_in_training(subset.network, subset.params, subset.mutable, point)


def _made(
    subset: Subset,
    loader: DataLoader,
    first: CheckedBatch,
    trains: bool,
    *,
    asked: bool,
    progress: bool,
) -> Kept | str:
    if subset.partition.all_trainable:
        return "nothing is frozen"
    if trains:
        return "the network draws random numbers in training, or its trained layers move statistics"
    if not could_be_head(subset, subset.output_shape(first.inputs)):
        return "more, or something else, than a last layer is trainable"
    if not asked and not _holds_arrays(loader):
        return "a loader that is not made from arrays may give other data in each pass"
    run = feature_pass(subset, first)
    if run is None:
        return "what is trainable is no plain Dense layer that gives outputs"
    if not asked:
        needed, free = loader.size * run.point_bytes, available_bytes()
        if free is not None and _SHARE * needed > free:
            return (
                f"its outputs take {format_bytes(needed)}, more than a quarter of the "
                f"{format_bytes(free)} that there are"
            )
    made = in_memory(run, loader, first, data_batches(loader, masks=True), progress=progress)
    layer = over_features(subset, run.origin, "data_loader")
    said = f"cached: the frozen layers ran once over {made.size:,} points"
    return Kept(layer, as_plain(made), False, said)


def _holds_arrays(loader: DataLoader) -> bool:
    return isinstance(loader._batches, ArrayBatches)


def held_out(kept: Subset, whole: Subset, loader: DataLoader, *, progress: bool) -> DataLoader:
    """Validation data for what steps evaluate: the layer's inputs, where that is a layer alone.

    Raises
    ------
    InvalidArgumentError
        If they are features of something else, or features where steps run the network.
    """
    origin = origin_of(loader)
    if origin is not None:
        over_features(whole, origin, "val_data_loader")
        if kept.network is whole.network:
            raise InvalidArgumentError(
                "val_data_loader holds features, and data_loader does not; give "
                "hoarfrost.features of both, by the same network"
            )
        return as_plain(loader)
    if kept.network is whole.network:
        return loader
    batches = data_batches(loader, argument="val_data_loader", masks=True)
    first = next(batches)
    run = feature_pass(whole, first)
    if run is None:
        raise StructureError(
            "the frozen part of the network shows no last layer on val_data_loader"
        )
    again = itertools.chain([first], batches)
    return as_plain(in_memory(run, loader, first, again, progress=progress))
