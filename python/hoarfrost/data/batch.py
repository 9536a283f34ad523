"""What can be asked of one batch: a tree of arrays that share their first axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.data.foreign import as_numpy, describe, plain
from hoarfrost.errors import BatchShapeError, DataError

PAIR = ("inputs", "targets")
INPUTS = ("inputs",)
TARGETS = ("targets",)


def checked_batch(batch: Any, names: tuple[str, ...], where: str) -> Any:
    """The batch with every leaf an array, after checking that all leaves hold as many points.

    What the arrays hold, numbers or not, is looked at by `hoarfrost.data.numbers`.

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
        If a pair is not one, or a leaf is no array (or one with masked entries, or of objects).
    BatchShapeError
        If a leaf has no axis of points, or two leaves differ in length.
    """
    if names != PAIR:
        return _checked_parts([batch], names, where)[0]
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        remedy = "give two arrays (or trees of arrays) of the same length"
        if isinstance(batch, Mapping):
            remedy += ", or the whole to hoarfrost.data.HuggingFaceDataLoader(loader, targets=...)"
        raise DataError(
            f"{where} must be a tuple (inputs, targets), but it is {describe(batch)}; {remedy}"
        )
    return tuple(_checked_parts(batch, names, where))


def native(batch: Any) -> Any:
    """The batch in the byte order of this machine; arrays that are in it stay as they are.

    JAX reads the bytes of any other array as if they were in this order.
    """

    def one(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
            return leaf.astype(leaf.dtype.newbyteorder("="))
        return leaf

    return jax.tree.map(one, batch)


def num_points(batch: Any) -> int:
    """Number of data points of a checked batch."""
    return int(jax.tree.leaves(batch)[0].shape[0])


def take(batch: Any, rows: Any) -> Any:
    """The points of the batch at `rows`, a slice or an integer array."""
    return jax.tree.map(lambda leaf: leaf[rows], batch)


def concatenate(batches: Sequence[Any]) -> Any:
    """Checked batches joined along the data axis, as NumPy arrays.

    Raises
    ------
    DataError
        If they differ in more than the number of points.
    """
    if len(batches) == 1:
        return jax.tree.map(np.asarray, batches[0])
    kinds = [(jax.tree.structure(batch), _feature_shapes(batch)) for batch in batches]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise DataError(
                f"batches cannot be joined: one has arrays of shape {kinds[0][1]} beyond axis 0, "
                f"and the one {index} after it {kind[1]}; all need the same arrays"
            )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=0), *batches)


def feature_shape(batch: Any) -> Any:
    """Shape of one point: a tuple, or the same tree of tuples where the batch is a tree."""
    return jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), batch)


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix, SciPy's or JAX's (which is a tree of arrays)."""
    return hasattr(value, "todense")


def _is_no_tree(value: Any) -> bool:
    return is_sparse(value) or isinstance(value, Iterator)


def _feature_shapes(batch: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape[1:]) for leaf in jax.tree.leaves(batch)]


def _checked_parts(parts: Sequence[Any], names: tuple[str, ...], where: str) -> list[Any]:
    arrays = []
    lengths: dict[str, int] = {}
    for part, name in zip(parts, names, strict=True):
        part = plain(part, _is_no_tree)
        leaves, treedef = jax.tree_util.tree_flatten_with_path(part, is_leaf=_is_no_tree)
        if not leaves:
            raise DataError(f"{name} of {where} hold no array: they are {describe(part)}")
        converted = []
        for path, leaf in leaves:
            label = name + jax.tree_util.keystr(path)
            array = _as_array(leaf, label, name, where)
            lengths[label] = int(array.shape[0])
            converted.append(array)
        arrays.append(jax.tree_util.tree_unflatten(treedef, converted))
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{label} has {length}" for label, length in lengths.items())
        raise BatchShapeError(
            f"the arrays of {where} have different length {sorted(set(lengths.values()))} along "
            f"axis 0: {found}; all need the same number of data points"
        )
    return arrays


def _as_array(leaf: Any, label: str, name: str, where: str) -> Any:
    if is_sparse(leaf):
        raise DataError(
            f"{label} of {where} is a sparse {type(leaf).__name__}; give a dense array, "
            ".todense() of it"
        )
    if isinstance(leaf, np.ma.MaskedArray):
        masked = int(np.count_nonzero(np.ma.getmaskarray(leaf)))  # type: ignore[no-untyped-call]
        if masked:
            raise DataError(
                f"{label} of {where} has {masked} masked entries, whose numbers mean nothing; "
                "leave those points out, or impute them and give a plain array"
            )
        leaf = np.asarray(leaf)
    scalar = isinstance(leaf, int | float | complex | str | bytes)
    if not isinstance(leaf, (np.ndarray, jax.Array)) and not scalar:
        leaf = as_numpy(leaf, label, where)
    if scalar or leaf.ndim == 0:
        raise BatchShapeError(
            f"{label} of {where} is {describe(leaf)}: {name} hold a scalar, without a data axis; "
            "axis 0 must run over the points (a list is a tree of its elements: give "
            "numpy.asarray(...) of it)"
        )
    if leaf.dtype == object:
        raise DataError(
            f"{label} of {where} has dtype object; give an array of numbers (rows of unequal "
            "length or mixed types are not accepted)"
        )
    return leaf
