"""Arrays and containers of other libraries, as NumPy's; none of those libraries is imported.

PyTorch's and TensorFlow's tensors, pandas' columns and the like say by `__array__` or DLPack what
they hold; a tokenizer's output is a mapping that JAX does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import DataError


def as_numpy(leaf: Any, label: str, where: str) -> np.ndarray:
    """An array of another library as one of NumPy's.

    A tensor that requires gradients gives its values. bfloat16, which NumPy does not have, comes
    by DLPack as ml_dtypes' bfloat16.

    Parameters
    ----------
    leaf : object
        Something with `__array__`, `__dlpack__` or a method `numpy`.
    label, where : str
        What it is ("inputs['ids']") and in which batch, for the error's text.

    Raises
    ------
    DataError
        If it has none of these, or its library refuses: a sparse tensor, or one on an accelerator
        that JAX cannot read.
    """
    if getattr(leaf, "requires_grad", False) is True:
        leaf = leaf.detach()
    refusals = []
    for attribute, convert in _WAYS:
        if not hasattr(leaf, attribute):
            continue
        try:
            return convert(leaf)
        except Exception as error:
            refusals.append(error)
    if not refusals:
        raise DataError(
            f"{label} of {where} is {describe(leaf)}, not an array; convert it with numpy.asarray "
            "first"
        )
    raise DataError(
        f"{label} of {where} is {describe(leaf)} that cannot be read as an array ({refusals[0]}); "
        "give a dense one in the memory of the host"
    ) from refusals[0]


def plain(tree: Any, is_leaf: Callable[[Any], bool]) -> Any:
    """The tree with mappings that JAX takes for a leaf (a tokenizer's output, say) as dicts."""
    if not any(isinstance(x, Mapping) for x in jax.tree.leaves(tree, is_leaf=is_leaf)):
        return tree

    def one(leaf: Any) -> Any:
        return plain(dict(leaf), is_leaf) if isinstance(leaf, Mapping) else leaf

    return jax.tree.map(one, tree, is_leaf=is_leaf)


def describe(value: Any) -> str:
    """What a value is, for the text of an error."""
    size = f" of length {len(value)}" if isinstance(value, (tuple, list, dict)) else ""
    return f"of type {type(value).__name__}{size}"


def _by_dlpack(leaf: Any) -> np.ndarray:
    # A copy: the library may write the next batch where this one lies.
    return np.array(jax.dlpack.from_dlpack(leaf))


_WAYS: tuple[tuple[str, Callable[[Any], np.ndarray]], ...] = (
    ("__array__", np.asarray),
    ("numpy", lambda leaf: np.asarray(leaf.numpy())),
    ("__dlpack__", _by_dlpack),
)
