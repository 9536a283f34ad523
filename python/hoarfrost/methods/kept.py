"""Whether the frozen part of a network runs once, so that a method goes over its outputs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

from hoarfrost.curvature.feature_pass import could_be_head, feature_pass, point_of
from hoarfrost.curvature.feature_store import FrozenPass, in_memory
from hoarfrost.data import DataLoader
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.checked import CheckedBatch, data_batches
from hoarfrost.data.features import as_plain, origin_of
from hoarfrost.errors import InvalidArgumentError, StructureError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import over_features
from hoarfrost.memory import available_bytes, format_bytes
from hoarfrost.methods.tail_pass import tail_loader, tail_pass
from hoarfrost.network.dense import DenseNetwork
from hoarfrost.network.tail import TailNetwork
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
        What comes after the frozen part and its inputs, or the network and the data.
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
    if not asked and not _holds_arrays(loader):
        return "a loader that is not made from arrays may give other data in each pass"
    return _layer(subset, loader, first, asked=asked, progress=progress) or _tail(
        subset, loader, first, asked=asked, progress=progress
    )


def _layer(
    subset: Subset, loader: DataLoader, first: CheckedBatch, *, asked: bool, progress: bool
) -> Kept | str | None:
    """The inputs of a last Dense layer; None where it is not what is trainable."""
    if not could_be_head(subset, subset.output_shape(first.inputs)):
        return None
    run = feature_pass(subset, first)
    if run is None:
        return None
    if not asked and (large := _too_large(run, loader)):
        return large
    made = in_memory(run, loader, first, data_batches(loader, masks=True), progress=progress)
    layer = over_features(subset, run.origin, "data_loader")
    said = f"cached: the frozen layers ran once over {made.size:,} points"
    return Kept(layer, as_plain(made), False, said)


def _tail(
    subset: Subset, loader: DataLoader, first: CheckedBatch, *, asked: bool, progress: bool
) -> Kept | str:
    """What comes before the first trainable parameters of any kind."""
    run = tail_pass(subset, first)
    if isinstance(run, str):
        return run
    if not asked and not run.pays:
        return "what comes before the trainable parameters costs less than to keep its outputs"
    if not asked and (large := _too_large(run, loader)):
        return large
    try:
        made = tail_loader(run, loader, first, "data_loader", progress=progress)
    except StructureError as error:
        return str(error)
    said = (
        f"cached: what comes before the trainable parameters ran once over {made.size:,} points, "
        f"{format_bytes(made.size * run.point_bytes)} of outputs"
    )
    return Kept(replace(subset, network=run.network), made, False, said)


def _too_large(run: FrozenPass, loader: DataLoader) -> str | None:
    needed, free = loader.size * run.point_bytes, available_bytes()
    if free is None or _SHARE * needed <= free:
        return None
    return (
        f"its outputs take {format_bytes(needed)}, more than a quarter of the "
        f"{format_bytes(free)} that there are"
    )


def _holds_arrays(loader: DataLoader) -> bool:
    return isinstance(loader._batches, ArrayBatches)


def held_out(kept: Subset, whole: Subset, loader: DataLoader, *, progress: bool) -> DataLoader:
    """Validation data for what steps evaluate: its inputs, where that is not the whole network.

    Raises
    ------
    InvalidArgumentError
        If they are features of something else, or features where steps run the network; if the
        frozen part gives outputs of other shapes for them.
    """
    origin = origin_of(loader)
    if origin is not None:
        over_features(whole, origin, "val_data_loader")
        if not isinstance(kept.network, DenseNetwork):
            raise InvalidArgumentError(
                "val_data_loader holds features, and data_loader does not; give "
                "hoarfrost.features of both, by the same network"
            )
        return as_plain(loader)
    if kept.network is whole.network:
        return loader
    batches = data_batches(loader, argument="val_data_loader", masks=True)
    first = next(batches)
    if isinstance(kept.network, TailNetwork):
        return _held_out_tail(kept.network, whole, loader, first, progress=progress)
    run = feature_pass(whole, first)
    if run is None:
        raise StructureError(
            "the frozen part of the network shows no last layer on val_data_loader"
        )
    again = itertools.chain([first], batches)
    return as_plain(in_memory(run, loader, first, again, progress=progress))


def _held_out_tail(
    network: TailNetwork, whole: Subset, loader: DataLoader, first: CheckedBatch, *, progress: bool
) -> DataLoader:
    run = tail_pass(whole, first)
    if isinstance(run, str) or run.network != network:
        why = run if isinstance(run, str) else "its inputs have other shapes than those of the data"
        raise InvalidArgumentError(
            f"val_data_loader does not go through the frozen part of the network as data_loader "
            f"does: {why}; give cache_features=False"
        )
    return tail_loader(run, loader, first, "val_data_loader", progress=progress)
