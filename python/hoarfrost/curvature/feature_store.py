"""Features of a whole data set, in memory or in a folder, and the loader of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import jax
import numpy as np

from hoarfrost.curvature.feature_pass import FeaturePass
from hoarfrost.data import DataLoader
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.batch import PAIR, take
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.features import FeatureLoader
from hoarfrost.data.joined import JoinedRows, joined
from hoarfrost.data.shards import ShardFolder
from hoarfrost.data.streams import Batches, StreamBatches
from hoarfrost.errors import DataError
from hoarfrost.memory import check_room
from hoarfrost.network.dense import INPUTS, OFFSET, Origin
from hoarfrost.progress import progress_bar
from hoarfrost.storage import digest

# Bytes of the features that are made, and written, at once.
_AT_ONCE = 2**25

# What is kept of points, by name.
Columns = dict[str, np.ndarray]


class FrozenPass(Protocol):
    """The frozen part of a network over batches, such as `FeaturePass`."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its arrays are called."""

    @property
    def point_bytes(self) -> int:
        """Bytes of those of one example."""

    def features(self, batches: Iterable[CheckedBatch]) -> Iterator[tuple[np.ndarray, ...]]:
        """The arrays, axis 0 over examples, piece by piece."""


def points_at_once(run: FrozenPass, batch_size: int) -> int:
    """Examples that are made at once: whole batches, where they are not larger than that."""
    most = max(1, _AT_ONCE // max(1, run.point_bytes))
    return most if most < batch_size else most - most % batch_size


def in_parts(
    batches: Iterator[CheckedBatch], points: int
) -> Iterator[tuple[int, Iterator[CheckedBatch]]]:
    """Batches in parts of so many points, cut where a part ends within one."""

    def cut_up() -> Iterator[tuple[int, CheckedBatch]]:
        done = 0
        for batch in batches:
            start = 0
            while start < batch.size:
                stop = min(batch.size, start + points - done % points)
                yield done // points, _rows(batch, start, stop)
                done += stop - start
                start = stop

    for index, part in itertools.groupby(cut_up(), key=lambda pair: pair[0]):
        yield index, (batch for _, batch in part)


def made(run: FrozenPass, part: Iterator[CheckedBatch]) -> Columns:
    """The features of some batches by their names, with "targets" and "mask".

    Raises
    ------
    DataError
        If targets differ in shape or dtype.
    NonFiniteError, StructureError
        As for `FeaturePass.features`.
    """
    targets: list[np.ndarray] = []
    masks: list[np.ndarray] = []

    def noted() -> Iterator[CheckedBatch]:
        for batch in part:
            _same_kind(targets[:1], batch.targets, batch.index)
            targets.append(batch.targets)
            masks.extend([] if batch.mask is None else [batch.mask])
            yield batch

    pieces = list(run.features(noted()))
    columns = {
        name: np.concatenate([piece[place] for piece in pieces])
        for place, name in enumerate(run.names)
    }
    columns["targets"] = np.concatenate(targets)
    if masks:
        columns["mask"] = np.concatenate(masks)
    return columns


def in_memory(
    run: FeaturePass,
    loader: DataLoader,
    first: CheckedBatch,
    batches: Iterator[CheckedBatch],
    *,
    progress: bool,
) -> FeatureLoader:
    """The features of all points in arrays, from the `batches` of `loader`, the first among them.

    Raises
    ------
    MemoryLimitError
        If there is no room for them, where it is known how many there are.
    """
    columns, sizes = all_columns(
        run, loader, first, batches, "give path= a folder for them", progress=progress
    )
    return as_loader(run.origin, loader, columns, sizes)


def all_columns(
    run: FrozenPass,
    loader: DataLoader,
    first: CheckedBatch,
    batches: Iterator[CheckedBatch],
    remedy: str,
    *,
    progress: bool,
) -> tuple[dict[str, Any], list[int]]:
    """What `in_memory` keeps, and the sizes of the batches; `remedy` is where there is no room."""
    known = loader._batches.sizes
    total = None if known is None else sum(known)
    if total is not None:
        check_room(
            f"the features of {total:,} points",
            total * run.point_bytes,
            remedy,
        )
    sizes: list[int] = []
    kept: list[Columns] = []
    done = 0
    with progress_bar(description="Features", total=total, enabled=progress, unit="point") as bar:
        for _, part in in_parts(counted(batches, sizes), points_at_once(run, first.size)):
            columns = made(run, part)
            rows = len(columns["targets"])
            if total is None:
                kept.append(columns)
            else:
                _put(kept, columns, done, total)
            del columns  # its memory goes to the next part
            done += rows
            bar.update(rows)
    if total is not None and done != total:
        raise DataError(f"the loader gave {done} points, and said that it has {total}")
    return {name: joined([columns[name] for columns in kept]) for name in kept[0]}, sizes


def on_disk(
    run: FeaturePass,
    folder: ShardFolder,
    loader: DataLoader,
    batches: Iterator[CheckedBatch],
    *,
    progress: bool,
) -> FeatureLoader:
    """The features of all points in the shards of a folder, of which those that lack are made.

    Raises
    ------
    InvalidArgumentError
        If a shard is of other data.
    SavedFileError
        If a shard is damaged, or cannot be written.
    """
    known = loader._batches.sizes
    sizes: list[int] = []
    points: list[int] = []
    folder.begin()
    with progress_bar(
        description="Features",
        total=None if known is None else sum(known),
        enabled=progress,
        unit="point",
    ) as bar:
        for index, part in in_parts(counted(batches, sizes), folder.header["points"]):
            read = Digest()
            if folder.shard(index).exists():
                for batch in read.along(part):
                    del batch
                folder.check(index, read.hexdigest())
            else:
                columns = made(run, read.along(part))
                folder.write(index, columns, read.hexdigest())
                del columns  # its memory goes to the next shard
            points.append(read.points)
            bar.update(read.points)
    folder.finish(points, sizes)
    return as_loader(run.origin, loader, dict(folder.columns(points)), sizes)


class Digest:
    """Of the data of some batches, and how many points they have."""

    def __init__(self) -> None:
        self.points = 0
        self._found = hashlib.sha256()

    def along(self, batches: Iterator[CheckedBatch]) -> Iterator[CheckedBatch]:
        """The same batches, each taken note of."""
        for batch in batches:
            self.add(batch)
            yield batch

    def add(self, batch: CheckedBatch) -> None:
        """Take note of a batch."""
        leaves = jax.tree.leaves((batch.inputs, batch.targets, batch.mask))
        named = {str(place): np.asarray(leaf) for place, leaf in enumerate(leaves)}
        self._found.update(digest(named).encode())
        self.points += batch.size

    def hexdigest(self) -> str:
        """What tells other data from these."""
        return self._found.hexdigest()


def counted(batches: Iterator[CheckedBatch], sizes: list[int]) -> Iterator[CheckedBatch]:
    """The same batches, their sizes noted."""
    for batch in batches:
        sizes.append(batch.size)
        yield batch


def as_loader(
    origin: Origin, loader: DataLoader, columns: dict[str, Any], sizes: list[int]
) -> FeatureLoader:
    """Columns as a loader, in batches, and in orders of its epochs, like those of the data.

    One that is made from arrays has them shuffled as it is itself; any other has its batches in the
    order of the pass that they were made in.
    """
    inputs, targets = columns[INPUTS], columns["targets"]
    data = (
        {INPUTS: inputs, OFFSET: columns[OFFSET]} if OFFSET in columns else inputs,
        (targets, columns["mask"]) if "mask" in columns else targets,
    )
    return FeatureLoader(batches_like(loader._batches, data, sizes), origin=origin)


def batches_like(source: Batches, data: Any, sizes: list[int]) -> Batches:
    """Pairs of inputs and targets in batches as those of the data that they were made of."""
    count, step = sum(sizes), sizes[0]
    targets = data[1][0] if isinstance(data[1], tuple) else data[1]
    # What is joined gives arrays where rows of it are asked for.
    rows = np.arange(count) if isinstance(targets, JoinedRows) and count <= step else None
    if isinstance(source, ArrayBatches):
        return ArrayBatches(
            data, rows, source.batch_size, source.shuffle, source.prefetch, source.seed
        )
    if all(size == step for size in sizes[:-1]) and sizes[-1] <= step:
        return ArrayBatches(data, rows, step)
    ends = np.cumsum(sizes)

    def opened(_: int | None) -> Iterator[Any]:
        for size, end in zip(sizes, ends, strict=True):
            yield take(data, slice(end - size, end))

    return StreamBatches(opened, PAIR, tuple(sizes))


def _put(kept: list[Columns], columns: Columns, done: int, total: int) -> None:
    """Add columns to the whole ones, which are made with the first."""
    if not kept:
        kept.append({n: np.empty((total, *c.shape[1:]), c.dtype) for n, c in columns.items()})
    for name, column in columns.items():
        _same_kind([kept[0][name]], column, None)
        if done + len(column) > total:
            raise DataError(f"the loader gives more points than the {total} that it said it has")
        kept[0][name][done : done + len(column)] = column


def _same_kind(known: list[np.ndarray], array: np.ndarray, index: int | None) -> None:
    """Raise unless arrays fit together: a dtype that is narrower would lose digits in silence."""
    for one in known:
        if one.shape[1:] != array.shape[1:] or one.dtype != array.dtype:
            where = "a later batch" if index is None else f"batch {index}"
            raise DataError(
                f"targets of {where} have shape {array.shape[1:]} beyond axis 0 and dtype "
                f"{array.dtype}, those before {one.shape[1:]} and {one.dtype}; all need the same"
            )


def _rows(batch: CheckedBatch, start: int, stop: int) -> CheckedBatch:
    if (start, stop) == (0, batch.size):
        return batch
    rows = slice(start, stop)
    return replace(
        batch,
        inputs=take(batch.inputs, rows),
        targets=batch.targets[rows],
        size=stop - start,
        mask=None if batch.mask is None else batch.mask[rows],
    )
