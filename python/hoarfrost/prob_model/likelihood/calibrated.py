"""Weight samples whose outputs go through a fitted calibrator."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.calibration import OutputCalibrator
from hoarfrost.checks import shown
from hoarfrost.data.batch import native
from hoarfrost.data.numbers import check_numbers
from hoarfrost.dtypes import is_finite
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.predictive.weight_samples import WeightSamples
from hoarfrost.prior import array_tree
from hoarfrost.types import Tree

# Under which the parameters of the calibrator stand in a state.
KEY = "output_calibrator"


def as_calibrator(module: Any) -> OutputCalibrator | None:
    """The argument `output_calibrator` of a model, checked."""
    return None if module is None else OutputCalibrator(module)


def sound_variables(name: str, tree: Any, networks: Iterable[str]) -> Tree:
    """A tree of arrays under the names of networks, and under those alone, as JAX can read it.

    Raises
    ------
    InvalidArgumentError
        If it is no such tree, or holds other than real numbers; the place is named.
    """
    networks = tuple(networks)
    named = isinstance(tree, Mapping) and all(isinstance(tree.get(n), Mapping) for n in networks)
    if not named or len(tree) != len(networks):
        wanted = ", ".join(f"{n!r}: ..." for n in networks)
        raise InvalidArgumentError(
            f"{name} is {shown(tree)}; give a tree {{{wanted}}} such as that of "
            "posterior.state.get()"
        )
    return _sound_arrays(name, tree)


def _sound_arrays(name: str, tree: Tree) -> Tree:
    """The tree in the byte order of this machine, if it holds real numbers that JAX can take."""

    def as_array(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, np.ma.MaskedArray) and not np.ma.getmaskarray(leaf).any():
            leaf = np.asarray(leaf)
        masked = isinstance(leaf, np.ma.MaskedArray)
        if masked or not isinstance(leaf, np.ndarray | np.number | jax.Array):
            raise InvalidArgumentError(
                f"{name}{jax.tree_util.keystr(path)} is {shown(leaf)}; give an array of real "
                "numbers"
            )
        return leaf

    # None would leave a parameter out, and a layer without it is another one.
    arrays = jax.tree_util.tree_map_with_path(as_array, tree, is_leaf=lambda leaf: leaf is None)
    # The keys of an NNX module's dropout are no numbers, and as they are.
    numbers = jax.tree.map(lambda leaf: None if _is_key(leaf) else leaf, arrays)
    check_numbers(numbers, name, "the call")
    numbers = native(numbers)
    if not is_finite(numbers):
        raise NonFiniteError(f"{name} of the call hold a NaN or an infinity; give finite numbers")
    sound: Tree = jax.tree.map(
        lambda number, leaf: leaf if number is None else number,
        numbers,
        arrays,
        is_leaf=lambda leaf: leaf is None,
    )
    return sound


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def calibrated(
    samples: WeightSamples,
    calibrator: OutputCalibrator | None,
    calib_params: Tree | None,
    calib_mutable: Tree | None = None,
) -> WeightSamples:
    """The samples with outputs that go through the calibrator, where there are parameters for it.

    Parameters
    ----------
    calib_params, calib_mutable : tree or None
        Of a state: ``{"output_calibrator": {"params": ...}}`` and None. Without `calib_params`
        outputs stay as they are.

    Raises
    ------
    InvalidArgumentError
        If they are not of this form, or the model has no calibrator.
    """
    if calib_mutable is not None and not (isinstance(calib_mutable, Mapping) and not calib_mutable):
        raise InvalidArgumentError(
            "calib_mutable was given, but calibrators have parameters and no other collections; "
            "leave it out"
        )
    if calib_params is None:
        return samples
    if calibrator is None:
        raise InvalidArgumentError(
            "calib_params was given, but the model was made with output_calibrator=None; leave it "
            "out"
        )
    found = calib_params.get(KEY) if isinstance(calib_params, Mapping) else None
    if not isinstance(found, Mapping) or "params" not in found or len(calib_params) > 1:
        raise InvalidArgumentError(
            f"calib_params must be a tree {{{KEY!r}: {{'params': ...}}}}, such as "
            "posterior.state.get().calib_params after calibrate()"
        )
    array_tree("calib_params", calib_params)
    sound = _sound_arrays("calib_params", calib_params)
    return dataclasses.replace(samples, transform=calibrator, transform_variables=dict(sound[KEY]))
