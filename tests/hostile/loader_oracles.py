"""What a loader hands out is what it was given."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from agreement import Arguments, Oracle


def hands_out(argument: str) -> Oracle:
    """The batches of a loader are those that it was given, whatever they hold."""

    def oracle(given: Arguments, result: Any) -> str:
        value = given[argument]
        batches = list(value) if argument.endswith(("iterable", "loader")) else [value]
        wanted, found = (leaves_with_points(side) for side in (batches, result[0]))
        if given.get("batch_size") or given.get("shuffle"):
            wanted, found = sorted_numbers(wanted), sorted_numbers(found)
        if len(wanted) != len(found):
            return f"{len(found)} arrays were handed out of {len(wanted)}"
        return "" if all(map(equal, wanted, found)) else "other numbers were handed out"

    return oracle


def leaves_with_points(batches: Any) -> list[np.ndarray]:
    leaves = (leaf.numpy() if hasattr(leaf, "numpy") else leaf for leaf in jax.tree.leaves(batches))
    return [np.asarray(leaf) for leaf in leaves if np.size(leaf) or not np.shape(leaf)]


def sorted_numbers(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """All numbers in one row, by size: of batches cut otherwise, or in another order."""
    return [np.sort(np.concatenate([array.ravel() for array in arrays]).astype(np.float64))]


def equal(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind in "fc":
        return bool(np.all((first == second) | ((first != first) & (second != second))))
    return bool(np.all(first == second))
