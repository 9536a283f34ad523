"""Minibatches of chains side by side: every point once a pass, in orders set by seed and chain."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from hoarfrost.data import DataLoader
from hoarfrost.data.checked import data_batches
from hoarfrost.errors import DataError
from hoarfrost.likelihood import Categorical
from hoarfrost.likelihood.points import Points
from hoarfrost.methods.batches import Resident, Streamed, batches_of
from hoarfrost.training.step import PaddedBatch

SIZE, BATCH = 23, 5


def _points(loader: DataLoader) -> Points:
    first = next(data_batches(loader, masks=True))
    return Points.of(Categorical(), lambda inputs: (len(inputs), 3), first)


def _loader(*, arrays: bool, shuffle: bool = False) -> DataLoader:
    x = np.arange(SIZE, dtype=np.float32)[:, None]
    held = DataLoader.from_array_data((x, np.arange(SIZE) % 3), batch_size=BATCH, shuffle=shuffle)
    if arrays:
        return held
    return DataLoader.from_callable_iterable(lambda: iter(list(held)))


def _steps(batches: Resident | Streamed, stops: list[int], first: int = 0) -> list[PaddedBatch]:
    found = []
    for start, stop, block in batches.blocks(first, stops):
        found += [batches.pick(block, place) for place in range(stop - start)]
    return [jax.tree.map(np.asarray, one) for one in found]


def _made(loader: DataLoader, **options: int | bool) -> Resident | Streamed:
    given = {"pads": True, "num_chains": 2, "seed": 4, **options}
    return batches_of(loader, _points(loader), **given)


def test_arrays_are_gone_over_in_whole_orders_of_each_chain() -> None:
    batches = _made(_loader(arrays=True))
    assert isinstance(batches, Resident) and batches.per_epoch == 5
    steps = _steps(batches, [SIZE])  # five passes of 23 points, in 23 batches of 5
    rows = np.stack([step.inputs[..., 0] for step in steps])  # (steps, chains, batch)
    for chain in range(2):
        passes = rows[:, chain].reshape(-1, SIZE)
        np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(SIZE), (5, 1)))
        assert len({tuple(one) for one in passes}) == 5
    assert (rows[:, 0] != rows[:, 1]).any()
    assert all((step.num_points == BATCH).all() for step in steps)
    assert all((step.targets == step.inputs[..., 0] % 3).all() for step in steps)


def test_blocks_and_where_they_begin_change_nothing() -> None:
    batches = _made(_loader(arrays=True))
    whole, cut = _steps(batches, [12]), _steps(batches, [1, 2, 7, 12])
    rest = _steps(batches, [7, 12], first=4)
    for a, b in (*zip(whole, cut, strict=True), *zip(whole[4:], rest, strict=True)):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_stream_comes_as_it_comes_padded_and_masked() -> None:
    batches = _made(_loader(arrays=False))
    assert isinstance(batches, Streamed) and batches.per_epoch == 5
    steps = _steps(batches, [3, 10])
    for place, step in enumerate(steps):
        first = BATCH * (place % 5)
        own = np.arange(first, min(first + BATCH, SIZE))
        assert (step.num_points == len(own)).all()
        for chain in range(2):
            counted = step.counted[chain]
            np.testing.assert_array_equal(step.inputs[chain, counted, 0], own)
    rest = _steps(batches, [10], first=6)
    for a, b in zip(steps[6:], rest, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_without_padding_a_smaller_batch_is_a_block_of_its_own() -> None:
    batches = _made(_loader(arrays=False), pads=False)
    sizes = [step.inputs.shape[1] for step in _steps(batches, [10])]
    assert sizes == [5, 5, 5, 5, 3] * 2


def test_a_bootstrap_draws_each_chain_its_points_with_replacement() -> None:
    batches = _made(_loader(arrays=True), bootstrap=True)
    rows = np.stack([step.inputs[..., 0] for step in _steps(batches, [SIZE])])
    own = [np.sort(rows[:, chain].reshape(-1, SIZE)) for chain in range(2)]
    for passes in own:
        assert (passes == passes[0]).all()  # the same points in every pass
        assert len(set(passes[0])) < SIZE
    assert (own[0][0] != own[1][0]).any()
    with pytest.raises(DataError, match="bootstrap is True"):
        _made(_loader(arrays=False), bootstrap=True)


def test_a_stream_that_falls_short_is_an_error_that_says_so() -> None:
    lengths = iter((3, 3, 3, 2, 2, 2))

    def batches() -> object:
        return iter([(np.ones((4, 1), np.float32), np.zeros(4, int))] * next(lengths))

    loader = DataLoader.from_callable_iterable(batches)
    made = batches_of(loader, _points(loader), pads=True, num_chains=1, seed=0)
    with pytest.raises(DataError, match="gave 2 batches, and 3"):
        _steps(made, [12])
