"""Which chains or members run at once: as many as take little beside what they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.data.checked import data_batches
from hoarfrost.methods.problem import Problem
from hoarfrost.types import Tree

# Of what all share, the frozen parameters, that chains may take at once beside it.
_SHARE = 16
# What they may take whatever there is, and where nothing is shared.
_LEAST, _ALONE = 2**23, 2**28
# A chain's parameters, two states of an optimiser or a sampler, what a step makes of these, and
# two copies of its batch.
_STATES, _BATCHES = 6, 2


def groups_of(problem: Problem, total: int) -> list[range]:
    """The chains 0 to `total`, cut into groups that run one after the other.

    It depends on shapes alone, so that rounding is the same whatever memory there is.
    """
    shared = _bytes(problem.whole.frozen)
    most = max(_LEAST, shared // _SHARE) if shared else _ALONE
    batch = next(data_batches(problem.loader, masks=True))
    own = _STATES * _bytes(problem.whole.trainable) + _BATCHES * _bytes(batch.inputs)
    count = -(-total // max(1, most // max(1, own)))
    # Of one size, as far as that goes: a program for each.
    size = -(-total // count)
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def gathered(parts: Iterator[Tree], groups: Sequence[range]) -> Tree:
    """What each group gives, on the host, as one tree with all of them along axis 0."""
    first = jax.tree.map(np.asarray, next(parts))
    if len(groups) == 1:
        return first
    total = groups[-1].stop

    def whole(leaf: np.ndarray) -> np.ndarray:
        each = len(leaf) // len(groups[0])
        return np.empty((total * each, *leaf.shape[1:]), leaf.dtype)

    made: Any = jax.tree.map(whole, first)

    def put(place: int, part: Tree) -> None:
        def one(into: np.ndarray, leaf: Any) -> None:
            each = len(into) // total
            group = groups[place]
            into[group.start * each : group.stop * each] = leaf

        jax.tree.map(one, made, part)

    put(0, first)
    del first
    for place in range(1, len(groups)):
        put(place, next(parts))
    return made


def _bytes(tree: Tree) -> int:
    return sum(int(leaf.nbytes) for leaf in jax.tree.leaves(tree))
