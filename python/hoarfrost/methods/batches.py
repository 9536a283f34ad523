"""Minibatches for chains and members that run side by side, a block of steps at a time.

Data that lie in arrays stay where the program runs, and a step is told which rows it takes; each
chain goes through them in orders of its own. What comes from a stream is handed over batch by
batch, in the order that its loader gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data import DataLoader
from hoarfrost.data.arrays import ArrayBatches
from hoarfrost.data.checked import CheckedBatch, data_batches, epoch_batches
from hoarfrost.data.pieces import padded
from hoarfrost.errors import DataError
from hoarfrost.likelihood.points import Points, num_counted
from hoarfrost.memory import available_bytes
from hoarfrost.training.step import PaddedBatch
from hoarfrost.types import Tree

# Of the free memory, what data may take that stay where the program runs.
_SHARE = 4
# Bytes of a block of batches from a stream, and the most steps of any block.
_BLOCK_BYTES = 2**25
_BLOCK_STEPS = 256

_ARGUMENT = "data_loader"

# (what a block holds, place of the step) -> its batch, every leaf with a leading axis of chains.
Pick = Callable[[Tree, jax.Array], PaddedBatch]


class Batches(Protocol):
    """The minibatches of a run."""

    @property
    def first_chain(self) -> int:
        """Which chain the first of those here is, of all chains of the run."""

    def part(self, chains: range) -> Batches:
        """Those of some of the chains."""

    @property
    def per_epoch(self) -> int:
        """How many steps go over all data once."""

    @property
    def pick(self) -> Pick:
        """What a program takes a step's batch by; module-level."""

    def blocks(self, first: int, stops: Sequence[int]) -> Iterator[tuple[int, int, Tree]]:
        """From step `first` on, ``(start, stop, what pick takes)``, each block up to a stop."""


@dataclass(frozen=True, eq=False)
class Resident:
    """Data in arrays on the device.

    Attributes
    ----------
    inputs : tree of arrays
        Axis 0 over the N examples.
    targets, counted : jax.Array
        ``(N, rows of an example, ...)``, and which of them are data points.
    batch_size, num_chains, seed : int
        Each chain and each pass has an order of its own, a function of the seed.
    chosen : (chains of the run, N) integers or None
        Which examples each chain goes through, repeated ones too; None: all.
    first_chain : int
        Which of the run's chains the first of these is.
    """

    inputs: Tree
    targets: jax.Array
    counted: jax.Array
    batch_size: int
    num_chains: int
    seed: int
    chosen: np.ndarray | None = None
    first_chain: int = 0

    def part(self, chains: range) -> Resident:
        """Those of some of the chains; the data are the same arrays."""
        return replace(self, num_chains=len(chains), first_chain=chains.start)

    @property
    def per_epoch(self) -> int:
        """Steps that go over all data once."""
        return -(-self.targets.shape[0] // self.batch_size)

    @property
    def pick(self) -> Pick:
        """Takes the rows of a step."""
        return _rows_at

    def blocks(self, first: int, stops: Sequence[int]) -> Iterator[tuple[int, int, Tree]]:
        """Rows for each chain, of whole orders one after the other: no batch is a smaller one."""
        most = min(_BLOCK_STEPS, _longest(first, stops))
        data = self.inputs, self.targets, self.counted
        orders = _Orders(self)
        for start, end in _cut(first, stops, most):
            # A program of one shape, whatever the length of the block.
            rows = np.zeros((most, self.num_chains, self.batch_size), np.int32)
            for chain in range(self.num_chains):
                rows[: end - start, chain] = orders.between(self.first_chain + chain, start, end)
            yield start, end, (data, rows)


class _Orders:
    """Rows of any steps of any chain, the last two orders of each kept."""

    def __init__(self, data: Resident) -> None:
        self.data = data
        self.kept: dict[tuple[int, int], np.ndarray] = {}

    def between(self, chain: int, start: int, stop: int) -> np.ndarray:
        """Of steps from `start` to `stop`, ``(steps, batch_size)``."""
        size, each = self.data.targets.shape[0], self.data.batch_size
        places = np.arange(start * each, stop * each, dtype=np.int64)
        rows = np.empty(len(places), np.int32)
        for epoch in range(places[0] // size, places[-1] // size + 1):
            own = places // size == epoch
            rows[own] = self._order(chain, epoch)[places[own] % size]
        return rows.reshape(stop - start, each)

    def _order(self, chain: int, epoch: int) -> np.ndarray:
        if (chain, epoch) not in self.kept:
            self.kept.pop((chain, epoch - 2), None)
            size = self.data.targets.shape[0]
            order = np.random.default_rng((self.data.seed, chain, epoch)).permutation(size)
            chosen = self.data.chosen
            self.kept[chain, epoch] = order if chosen is None else chosen[chain][order]
        return self.kept[chain, epoch]


@dataclass(frozen=True, eq=False)
class Streamed:
    """Batches of a loader; chain c goes over epoch ``e * all_chains + c`` in its pass e.

    Attributes
    ----------
    loader : DataLoader
        Gone over for every pass of every chain.
    points : Points
        What of a batch is a data point.
    pads : bool
        Whether a smaller batch is padded to the size of the others.
    batch_size, num_batches, num_chains, all_chains : int
        Examples of the largest batch, and batches of a pass; chains, here and in the run.
    first_chain : int
        Which of the run's chains the first of these is.
    """

    loader: DataLoader
    points: Points
    pads: bool
    batch_size: int
    num_batches: int
    num_chains: int
    all_chains: int
    first_chain: int = 0

    def part(self, chains: range) -> Streamed:
        """Those of some of the chains."""
        return replace(self, num_chains=len(chains), first_chain=chains.start)

    @property
    def per_epoch(self) -> int:
        """Steps of a pass."""
        return self.num_batches

    @property
    def pick(self) -> Pick:
        """Takes a step's batches from the block."""
        return _batch_at

    def blocks(self, first: int, stops: Sequence[int]) -> Iterator[tuple[int, int, Tree]]:
        """Batches one above the other, as many as fit into a block."""
        own = range(self.first_chain, self.first_chain + self.num_chains)
        chains = [self._from(chain, first) for chain in own]
        steps = (_side_by_side(list(each)) for each in zip(*chains, strict=True))
        most, waiting = 0, None
        for start, stop in itertools.pairwise((first, *stops)):
            while start < stop:
                one = waiting or next(steps)
                if not most:
                    own = sum(leaf.nbytes for leaf in jax.tree.leaves(one))
                    most = min(
                        _BLOCK_STEPS, _longest(first, stops), max(1, _BLOCK_BYTES // max(1, own))
                    )
                block, waiting = [one], None
                while len(block) < min(most, stop - start):
                    one = next(steps)
                    if not _alike(block[0], one):
                        waiting = one
                        break
                    block.append(one)
                end = start + len(block)
                # A program of one shape, whatever the length of the block.
                block += block[-1:] * (most - len(block))
                yield start, end, jax.tree.map(_stacked, *block)
                start = end

    def _from(self, chain: int, step: int) -> Iterator[PaddedBatch]:
        """Batches of a chain from a step on, without end."""
        epoch, place = divmod(step, self.per_epoch)
        while True:
            index = 0
            for batch in self._pass(epoch * self.all_chains + chain, again=epoch > 0):
                if index >= self.per_epoch:
                    break
                if index >= place:
                    yield self._padded(batch)
                index += 1
            if index < self.per_epoch:
                raise DataError(
                    f"{_ARGUMENT} gave {index} batches, and {self.per_epoch} in the pass "
                    "before the first step; give a loader with as many in every pass"
                )
            epoch, place = epoch + 1, 0

    def _pass(self, epoch: int, *, again: bool) -> Iterator[CheckedBatch]:
        batches = epoch_batches(
            self.loader, epoch, lambda *_: None, argument=_ARGUMENT, again=again
        )
        return filter(num_counted, map(self.points.checked, batches))

    def _padded(self, batch: CheckedBatch) -> PaddedBatch:
        examples = self.batch_size if self.pads else batch.size
        each = len(batch.targets) // batch.size
        counted = np.zeros(examples * each, np.bool_)
        counted[: len(batch.targets)] = True if batch.mask is None else batch.mask
        return PaddedBatch(
            inputs=jax.tree.map(np.asarray, padded(batch.inputs, batch.size, examples)),
            targets=np.asarray(padded(batch.targets, len(batch.targets), examples * each)),
            num_points=np.float32(num_counted(batch)),
            weight=np.float32(1),
            counted=counted,
        )


def batches_of(
    loader: DataLoader,
    points: Points,
    *,
    pads: bool,
    num_chains: int,
    seed: int,
    bootstrap: bool = False,
) -> Batches:
    """The minibatches of a loader: from arrays where it has them and they fit, else as they come.

    Raises
    ------
    DataError
        If no point counts; if `bootstrap` is asked for and the data are no arrays.
    """
    source: Any = loader._batches
    if isinstance(source, ArrayBatches) and _fits(source):
        return _resident(loader, points, source, num_chains, seed, bootstrap)
    if bootstrap:
        raise DataError(
            "bootstrap is True, but data_loader is a stream, of which points cannot be drawn with "
            "replacement; give DataLoader.from_array_data"
        )
    sizes = [
        batch.size
        for batch in data_batches(loader, one_shape=False, masks=True)
        if num_counted(points.checked(batch))
    ]
    return Streamed(loader, points, pads, max(sizes), len(sizes), num_chains, num_chains)


def _resident(
    loader: DataLoader,
    points: Points,
    source: ArrayBatches,
    num_chains: int,
    seed: int,
    bootstrap: bool,
) -> Resident:
    parts = [points.checked(batch) for batch in data_batches(loader, one_shape=False, masks=True)]
    each = len(parts[0].targets) // parts[0].size
    size = sum(part.size for part in parts)
    targets = np.concatenate([part.targets for part in parts])
    counted = [
        np.ones(len(part.targets), np.bool_) if part.mask is None else part.mask for part in parts
    ]
    columns = [part.inputs for part in parts]
    del parts
    inputs = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *columns)
    chosen = None
    if bootstrap:
        rng = np.random.default_rng((seed, 2**31))
        chosen = rng.integers(0, size, (num_chains, size), dtype=np.int32)
    return Resident(
        inputs=inputs,
        targets=jnp.asarray(targets.reshape(size, each, *targets.shape[1:])),
        counted=jnp.asarray(np.concatenate(counted).reshape(size, each)),
        batch_size=min(source.batch_size or size, size),
        num_chains=num_chains,
        seed=seed,
        chosen=chosen,
    )


def _fits(source: ArrayBatches) -> bool:
    # Objects of a user's own, such as arrays that are mapped, are read batch by batch.
    leaves = jax.tree.leaves(source.data)
    if not all(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves):
        return False
    free = available_bytes()
    return free is None or _SHARE * sum(leaf.nbytes for leaf in leaves) <= free


def _rows_at(block: Tree, place: jax.Array) -> PaddedBatch:
    """The rows of a step, for every chain."""
    (inputs, targets, counted), rows = block
    own = rows[place]

    def one(chosen: jax.Array) -> PaddedBatch:
        mask = counted[chosen].reshape(-1)
        return PaddedBatch(
            inputs=jax.tree.map(lambda leaf: leaf[chosen], inputs),
            targets=targets[chosen].reshape(-1, *targets.shape[2:]),
            # Where no point counts there is nothing to divide by, and a sum of nothing to divide.
            num_points=jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1),
            weight=jnp.float32(1),
            counted=mask,
        )

    return jax.vmap(one)(own)


def _batch_at(block: Tree, place: jax.Array) -> PaddedBatch:
    """A step's batches, for every chain."""
    found: PaddedBatch = jax.tree.map(lambda leaf: leaf[place], block)
    return found


def _longest(first: int, stops: Sequence[int]) -> int:
    """The most steps between two stops."""
    return max(stop - start for start, stop in itertools.pairwise((first, *stops)))


def _cut(first: int, stops: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Blocks from `first` on that end at stops, of at most so many steps."""
    start = first
    for stop in stops:
        while start < stop:
            yield start, min(stop, start + most)
            start = min(stop, start + most)


def _side_by_side(batches: list[PaddedBatch]) -> PaddedBatch:
    """A step's batches of all chains."""
    if not all(_alike(batches[0], batch) for batch in batches):
        raise DataError(
            "data_loader gives batches of different shapes to chains that run side by side; give "
            "batches of one shape, or run one chain at a time"
        )
    found: PaddedBatch = jax.tree.map(_stacked, *batches)
    return found


def _stacked(*leaves: Any) -> np.ndarray:
    return np.stack(leaves)


def _alike(one: PaddedBatch, other: PaddedBatch) -> bool:
    shapes = (jax.tree.map(np.shape, batch) for batch in (one, other))
    return next(shapes) == next(shapes)
