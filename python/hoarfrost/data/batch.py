"""What can be asked of one batch: a tree of arrays that share their first axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import DataError

PAIR = ("inputs", "targets")
INPUTS = ("inputs",)
TARGETS = ("targets",)


def checked_batch(batch: Any, names: tuple[str, ...], where: str) -> Any:
    """The batch with every leaf an array, after checking that all leaves hold as many points.

    Parameters
    ----------
    batch : tree of arrays
        A pair (inputs, targets) where `names` is `PAIR`, else the inputs or the targets alone.
    names : tuple of str
        `PAIR`, `INPUTS` or `TARGETS`.
    where : str
        Which batch this is, for the error's text.

    Raises
    ------
    DataError
        If a pair is not one, a leaf is no array, or two leaves differ in length.
    """
    if names != PAIR:
        return _checked_parts([batch], names, where)[0]
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError(
            f"{where} must be a tuple (inputs, targets), but it is {_describe(batch)}; give two "
            "arrays (or trees of arrays) of the same length"
        )
    return tuple(_checked_parts(batch, names, where))


def num_points(batch: Any) -> int:
    """Number of data points of a checked batch."""
    return int(jax.tree.leaves(batch)[0].shape[0])


def take(batch: Any, rows: Any) -> Any:
    """The points of the batch at `rows`, a slice or an integer array."""
    return jax.tree.map(lambda leaf: leaf[rows], batch)


def concatenate(batches: Sequence[Any]) -> Any:
    """Checked batches joined along the data axis, as NumPy arrays."""
    if len(batches) == 1:
        return jax.tree.map(np.asarray, batches[0])
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=0), *batches)


def feature_shape(batch: Any) -> Any:
    """Shape of one point: a tuple, or the same tree of tuples where the batch is a tree."""
    return jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), batch)


def _checked_parts(parts: Sequence[Any], names: tuple[str, ...], where: str) -> list[Any]:
    arrays = []
    lengths: dict[str, int] = {}
    for part, name in zip(parts, names, strict=True):
        leaves, treedef = jax.tree_util.tree_flatten_with_path(part)
        if not leaves:
            raise DataError(f"{name} of {where} hold no array: they are {_describe(part)}")
        converted = []
        for path, leaf in leaves:
            label = name + jax.tree_util.keystr(path)
            array = _as_array(leaf, label, where)
            lengths[label] = int(array.shape[0])
            converted.append(array)
        arrays.append(jax.tree_util.tree_unflatten(treedef, converted))
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{label} has {length}" for label, length in lengths.items())
        raise DataError(
            f"{' and '.join(names)} of {where} must have the same number of data points along "
            f"their first axis, but {found}; give one target for each input"
        )
    return arrays


def _as_array(leaf: Any, label: str, where: str) -> Any:
    if not isinstance(leaf, (np.ndarray, jax.Array)):
        if not hasattr(leaf, "__array__"):
            raise DataError(
                f"{label} of {where} is {_describe(leaf)}, not an array; convert it with "
                "numpy.asarray first"
            )
        leaf = np.asarray(leaf)
    if leaf.ndim == 0:
        raise DataError(
            f"{label} of {where} is a number without a data axis; its first axis must run over "
            "the data points"
        )
    if leaf.dtype == object:
        raise DataError(
            f"{label} of {where} has dtype object; give an array of numbers (rows of unequal "
            "length or mixed types are not accepted)"
        )
    return leaf


def _describe(value: Any) -> str:
    size = f" of length {len(value)}" if isinstance(value, (tuple, list, dict)) else ""
    return f"of type {type(value).__name__}{size}"
