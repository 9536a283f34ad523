"""Whether arrays hold numbers that JAX can take as they are."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hoarfrost.dtypes import is_real
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.types import Tree

# By the kind of a NumPy dtype: how numbers are made of it.
_REMEDIES = {
    "c": ": real and imaginary parts side by side, numpy.stack([x.real, x.imag], axis=-1)",
    "f": ": x.astype(numpy.float64)",
    "M": ": a duration in some unit, (x - x.min()) / numpy.timedelta64(1, 's')",
    "m": ": a duration in some unit, x / numpy.timedelta64(1, 's')",
    "S": ": the codes of numpy.unique(x, return_inverse=True), say",
    "U": ": the codes of numpy.unique(x, return_inverse=True), say",
    "V": ": one array for each field, in a dict",
}


def check_numbers(tree: Tree, name: str, where: str) -> None:
    """Raise unless every array of a tree holds real numbers that fit JAX's dtypes.

    Parameters
    ----------
    tree : tree of arrays
        As `hoarfrost.data.batch.checked_batch` gives it.
    name, where : str
        What it is ("inputs") and in which batch, for the error's text.

    Raises
    ------
    InvalidArgumentError
        If a dtype is none of real numbers, or a number is too large.
    """
    check_real(tree, name, where)
    check_range(tree, name, where)


def check_real(tree: Tree, name: str, where: str) -> None:
    """The part of `check_numbers` about dtypes."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not is_real(leaf.dtype):
            label = name + jax.tree_util.keystr(path)
            remedy = _REMEDIES.get(getattr(leaf.dtype, "kind", ""), "")
            raise InvalidArgumentError(
                f"{label} of {where} have dtype {leaf.dtype}; give real numbers{remedy}"
            )


def check_range(tree: Tree, name: str, where: str) -> None:
    """The part of `check_numbers` about size: float64 beyond float32, int64 beyond int32.

    Without 64-bit mode JAX turns the one into the other: a number beyond would become infinite, or
    wrap around. Arrays of 32 bits or fewer are not gone over.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, np.ndarray) and leaf.size and leaf.dtype.itemsize > 4:
            narrow = jax.dtypes.canonicalize_dtype(leaf.dtype)
            if narrow != leaf.dtype:
                _check_range(leaf, narrow, name + jax.tree_util.keystr(path), where)


def _check_range(leaf: np.ndarray, narrow: np.dtype, label: str, where: str) -> None:
    with np.errstate(all="ignore"):
        if _fits(leaf.min(), narrow) and _fits(leaf.max(), narrow):
            return
        for find in (np.argmax, np.argmin):
            index = tuple(int(i) for i in np.unravel_index(find(leaf), leaf.shape))
            value = leaf[index]
            # What is a NaN or an infinity already is found by the checks for those.
            if value != value or np.isinf(value) or _fits(value, narrow):
                continue
            raise InvalidArgumentError(
                f"{label} of {where} hold {value} at index {index}, beyond {narrow.name}, in which "
                f"JAX computes; give smaller numbers (other units), or set "
                "jax.config.update('jax_enable_x64', True)"
            )


def _fits(value: Any, narrow: np.dtype) -> bool:
    if narrow.kind == "f":
        return bool(np.isfinite(value.astype(narrow)))
    limits = np.iinfo(narrow)
    return int(limits.min) <= int(value) <= int(limits.max)
