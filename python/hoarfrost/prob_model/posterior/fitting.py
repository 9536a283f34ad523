"""Whether parameters are those of a model."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from hoarfrost.errors import HoarfrostError
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.likelihood.calibrated import KEY
from hoarfrost.prob_model.state import PosteriorState
from hoarfrost.types import Path, Tree, join, path_of


def misfit(joint: Joint, params: Tree, mutable: Tree | None, inputs: Tree | None) -> str:
    """What is wrong with parameters and statistics, in words; "" where nothing is.

    Parameters
    ----------
    inputs : tree of arrays or None
        A batch, with points or without; a Linen model has its shapes from it, and without it only
        the names of its networks are compared.
    """
    names = set(params) if isinstance(params, dict) else set()
    if names != set(joint.modules):
        return (
            f"it has the parameters of {', '.join(map(str, names)) or 'no network'}, and the "
            f"model has the networks {', '.join(joint.modules)}"
        )
    if inputs is None and any(module.needs_inputs for module in joint.modules.values()):
        return ""
    try:
        expected = jax.eval_shape(lambda: vars(joint.init(_one_point(inputs))))
    except (HoarfrostError, TypeError, ValueError) as error:
        return f"the model cannot take the inputs that it was trained on ({error})"
    for what, given in (("params", params), ("mutable", mutable or {})):
        fault = difference(given, expected[what] or {})
        if fault:
            return fault
    return ""


def calibration_misfit(joint: Joint, state: PosteriorState) -> str:
    """What is wrong with the calibration of a state, in words; "" where nothing is."""
    calibrator, calib_params = joint.likelihood.calibrator, state.calib_params
    inputs = None if state.progress is None else state.progress.inputs
    if calib_params is None or calibrator is None or inputs is None:
        return ""
    outputs = jax.eval_shape(
        joint.network.evaluate, state.params, state.mutable or {}, _one_point(inputs)
    )
    expected = jax.eval_shape(lambda: calibrator.init(outputs.shape[-1], jax.random.PRNGKey(0)))
    return difference(calib_params, {KEY: expected})


def difference(tree: Tree, like: Tree) -> str:
    """The first place at which a tree is not like another, in words; "" where there is none."""
    given, expected = _shapes(tree), _shapes(like)
    for path in sorted({*given, *expected}, key=lambda one: tuple(map(str, one))):
        own, wanted = given.get(path), expected.get(path)
        if own != wanted:
            has = "nothing" if own is None else f"shape {own}"
            needs = "nothing" if wanted is None else f"shape {wanted}"
            return f"at {join(path)!r} it has {has}, and the model has {needs}"
    return ""


def _shapes(tree: Tree) -> dict[Path, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_of(path): tuple(np.shape(leaf)) for path, leaf in leaves}


def _one_point(inputs: Tree | None) -> Tree:
    if inputs is None:
        return (1,)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            (1, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)
        ),
        inputs,
    )
