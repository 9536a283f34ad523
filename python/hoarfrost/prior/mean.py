"""The mean of a prior in each of its forms: a number, a vector in ravel order, a tree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.dtypes import at_least_float32, is_real
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.types import Tree


def sound_mean(mean: Any) -> Any:
    """A float, a vector, or a tree of arrays, all finite."""
    numbers = isinstance(mean, Sequence) and all(isinstance(x, Real) for x in mean)
    try:
        kept = np.asarray(mean) if numbers else jax.tree.map(np.asarray, mean)
        leaves = jax.tree.leaves(kept)
    except (TypeError, ValueError):
        kept, leaves = None, []
    masked = [x for x in jax.tree.leaves(mean) if isinstance(x, np.ma.MaskedArray)]
    if any(np.ma.getmaskarray(x).any() for x in masked):
        leaves = []
    wrong = not sum(leaf.size for leaf in leaves) or not all(map(_has_numbers, leaves))
    largest = _largest()
    if wrong or not all(np.all(np.abs(leaf.astype(np.float64)) <= largest) for leaf in leaves):
        raise InvalidArgumentError(
            f"mean is {shown(mean)}; give a finite number of at most {largest:.3g} in size, a "
            "vector of them in the order of jax.flatten_util.ravel_pytree, or a tree like the "
            "parameters"
        )
    return float(kept) if isinstance(kept, np.ndarray) and kept.ndim == 0 else kept


def _has_numbers(leaf: Any) -> bool:
    """Whether an array, or what stands for one, is of real numbers."""
    if isinstance(leaf, type) or not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        return False
    return is_real(leaf.dtype) and leaf.dtype != np.bool_


def _in_jax(leaf: Any) -> Any:
    """A number or a NumPy array as JAX has it; None where a number of it is too large for that."""
    if isinstance(leaf, int | float) and type(leaf) is not bool:
        leaf = None if abs(leaf) > _largest() else np.asarray(leaf)
    if not isinstance(leaf, np.ndarray) or not _has_numbers(leaf):
        return leaf
    if leaf.dtype.itemsize > 4:
        wide = leaf.astype(np.float64)
        if (np.isfinite(wide) & (np.abs(wide) > _largest())).any():
            return None
    return jnp.asarray(leaf.astype(leaf.dtype.newbyteorder("="), copy=False))


def _largest() -> float:
    """The largest number of JAX's widest floating dtype."""
    return float(np.finfo(jax.dtypes.canonicalize_dtype(np.float64)).max)


def array_tree(name: str, tree: Tree) -> Tree:
    """The tree with plain numbers and NumPy arrays as arrays of JAX; what stands for arrays stays.

    Raises
    ------
    InvalidArgumentError
        If a leaf is no array of real numbers, holds one that is too large for JAX's dtypes, or
        there is no leaf.
    """

    def as_array(path: Any, leaf: Any) -> Any:
        made = _in_jax(leaf)
        if _has_numbers(made):
            return made
        raise InvalidArgumentError(
            f"{name}{jax.tree_util.keystr(path)} is {shown(leaf)}; give a tree whose leaves are "
            f"arrays of real numbers of at most {_largest():.3g} in size, such as "
            "posterior.state.get().params"
        )

    try:
        arrays = jax.tree_util.tree_map_with_path(as_array, tree)
    except InvalidArgumentError:
        raise
    except ValueError as error:  # keys of a dict that have no order
        raise InvalidArgumentError(f"{name} is no tree that JAX can go over: {error}") from error
    if not jax.tree.leaves(arrays):
        raise InvalidArgumentError(f"{name} is {shown(tree)}, which holds no array; give a tree")
    return arrays


def mean_leaves(params: Tree, mean: Any) -> list[Any]:
    """The mean of each leaf of `params`: numbers, or arrays of its shape."""
    leaves = jax.tree.leaves(params)
    if jax.tree_util.all_leaves([mean]):
        if jnp.ndim(mean) == 0:
            return [mean] * len(leaves)
        if jnp.ndim(mean) == 1:
            return cut(mean, leaves, "mean of the prior")
    wanted, given = _shapes(params), _shapes(mean)
    if wanted != given:
        raise ShapeError(
            f"mean of the prior has the leaves {given}, but the full parameter tree {wanted}; give "
            "a tree like it, a vector, or a number"
        )
    return jax.tree.leaves(mean)


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """The shape of each leaf by its path, in tree order whatever the containers are."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}


def cut(vector: Any, leaves: list[Any], what: str) -> list[Any]:
    """A vector in pieces shaped like the leaves."""
    total = sum(math.prod(leaf.shape) for leaf in leaves)
    if total != vector.shape[0]:
        raise ShapeError(
            f"{what} has {vector.shape[0]} entries but the full parameter tree holds {total} "
            "numbers; give one for each, in the order of jax.flatten_util.ravel_pytree"
        )
    pieces, start = [], 0
    for leaf in leaves:
        stop = start + math.prod(leaf.shape)
        pieces.append(vector[start:stop].reshape(leaf.shape))
        start = stop
    return pieces


def _floating(leaf: Any) -> jax.Array:
    """The leaf in a floating dtype: whole numbers have no logarithms of variances beside them."""
    if jnp.issubdtype(leaf.dtype, np.floating):
        return at_least_float32(leaf)
    found: jax.Array = leaf.astype(jax.dtypes.canonicalize_dtype(np.float64))
    return found


def deviations(params: Tree, mean: Any) -> list[jax.Array]:
    """Each leaf less its prior mean, in float32 or wider."""
    wide = [_floating(leaf) for leaf in jax.tree.leaves(params)]
    means = mean_leaves(params, mean)
    return [leaf - jnp.asarray(own, leaf.dtype) for leaf, own in zip(wide, means, strict=True)]


def shifted(noise: Tree, mean: Any) -> Tree:
    """A tree with the prior mean added to each leaf."""
    leaves, structure = jax.tree.flatten(noise)
    means = mean_leaves(noise, mean)
    moved = [leaf + jnp.asarray(own, leaf.dtype) for leaf, own in zip(leaves, means, strict=True)]
    return jax.tree.unflatten(structure, moved)


def mean_tree_of(params: Tree, mean: Any) -> Tree:
    """The mean of each leaf of `params`, a tree of floats or float64 arrays."""
    params = array_tree("params", params)
    structure = jax.tree.structure(params)
    means = [np.asarray(own, np.float64) for own in mean_leaves(params, mean)]
    return jax.tree.unflatten(structure, [m if m.ndim else float(m) for m in means])
