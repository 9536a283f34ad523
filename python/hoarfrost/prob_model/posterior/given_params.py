"""Parameters that a user brings, as the state of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.data.batch import native
from hoarfrost.dtypes import is_real_array
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.network.nested import by_path
from hoarfrost.network.recognise import nnx_value
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.likelihood.calibrated import sound_variables
from hoarfrost.prob_model.posterior.fitting import misfit
from hoarfrost.prob_model.state import PosteriorState
from hoarfrost.types import Tree, join


def state_of_params(
    joint: Joint, tree: Any, mutable: Any, current: PosteriorState | None
) -> PosteriorState:
    """A state with these parameters, if they are those of the model."""
    trees = _named(joint, "tree", tree)
    collections = {} if mutable is None else _named(joint, "mutable", mutable, partly=True)
    variables = {
        name: module.given_variables(trees[name], collections.get(name))
        for name, module in joint.modules.items()
    }
    params, others = joint.network.split(variables)
    params = _own(sound_variables("tree", params, joint.modules))
    _check_collections(others)
    others = _own(native(others))
    seen = None if current is None else current.progress
    fault = misfit(joint, params, others, None if seen is None else seen.inputs)
    if fault:
        raise ShapeError(f"tree does not fit the model: {fault}")
    return PosteriorState(params=params, mutable=others or None)


def _named(joint: Joint, argument: str, tree: Any, *, partly: bool = False) -> Mapping[str, Any]:
    """A tree under the names of networks; that of the only network may come without."""
    names = list(joint.modules)
    if not isinstance(tree, Mapping):
        raise InvalidArgumentError(
            f"{argument} is {shown(tree)}; give a nested dict of arrays, or an nnx.State"
        )
    if set(tree) == set(names) or (partly and tree and set(tree) <= set(names)):
        return tree
    if len(names) == 1:
        return {names[0]: tree}
    raise InvalidArgumentError(
        f"{argument} has the keys {shown(list(tree))}, and this model has several networks; give "
        f"{{{', '.join(f'{name!r}: ...' for name in names)}}}"
    )


def _own(node: Any) -> Any:
    """In plain dicts, with arrays that nobody else can write to."""
    if isinstance(node, Mapping):
        return {name: _own(item) for name, item in node.items()}
    return jax.tree.map(_copy, node)


def _copy(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray | np.number):
        return leaf
    array = np.array(leaf)
    # What JAX would round stays as it was.
    exact = jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
    return jnp.asarray(array) if exact else array


def _check_collections(collections: Tree) -> None:
    for path, leaf in by_path(collections).items():
        value = nnx_value(leaf)
        is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if not is_key and not is_real_array(value):
            raise InvalidArgumentError(
                f"mutable at {join(path)!r} is {shown(value)}; give an array of real numbers"
            )
