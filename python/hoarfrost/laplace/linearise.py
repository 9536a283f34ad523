"""A network that is checked against its likelihood and its first batch, and its structure found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.curvature import find_head
from hoarfrost.curvature.head import MAX_POINTS
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import cut, piece_size
from hoarfrost.data.positions import examples_at_once
from hoarfrost.dtypes import is_finite
from hoarfrost.errors import NonFiniteError, SelectionError
from hoarfrost.fork import check_not_forked
from hoarfrost.freezing import Subset
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.likelihood import Likelihood
from hoarfrost.likelihood.points import checked_positions
from hoarfrost.network import check_points_apart
from hoarfrost.types import Tree


def linearise(
    subset: Subset,
    likelihood: Likelihood,
    first: CheckedBatch,
    ignored_label: int | None = None,
) -> LinearisedNetwork:
    """Check a network against its likelihood and the first batch, and find its structure.

    Raises
    ------
    NonFiniteError
        If a parameter is a NaN or an infinity (its path is named).
    ShapeError
        If the outputs do not fit the likelihood.
    MixedPointsError
        If the outputs for a point depend on the other points of the batch.
    SelectionError
        If there is no number to train.
    """
    check_not_forked("a fit")
    # On the device once, not once for every piece.
    subset = subset.placed()
    params, mutable = jax.tree.map(jnp.asarray, (subset.params, subset.mutable))
    subset = replace(subset, params=params, mutable=mutable)
    _check_finite(params, "parameter")
    _check_finite(mutable, "variable")
    if not any(leaf.size for leaf in jax.tree.leaves(subset.trainable)):
        raise SelectionError(
            "the trainable parameters hold no number: all of them have an axis of length 0"
        )
    shape = subset.output_shape(first.inputs)
    positions = checked_positions(likelihood, shape)
    structure = jax.tree.structure(first.inputs)
    form: Any = jax.ShapeDtypeStruct
    example = jax.tree.map(lambda x: form(x.shape[1:], x.dtype), first.inputs)
    linearised = LinearisedNetwork(
        subset, likelihood, shape[-1], None, structure, positions, ignored_label, example
    )
    if first.targets is not None:
        linearised.checked(first)
    check_points_apart(subset.network, params, mutable, first.inputs)
    # The structure is looked for on the piece that the first pass will go over anyway, so that the
    # search and the pass are one program.
    size = piece_size(first.size, examples_at_once(MAX_POINTS, positions))
    size = subset.devices.rows(size)
    inputs = cut(first.inputs, 0, size, min(size, first.size))
    if likelihood.head == "general":  # the core has a form for every other curvature
        return linearised
    head = find_head(subset, inputs, (size, *shape[1:]), warn=True)
    return replace(linearised, head=head)


def _check_finite(tree: Tree, kind: str) -> None:
    if is_finite(tree):
        return
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not is_finite(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise NonFiniteError(
                f"the {kind} {name!r} holds a NaN or an infinity; train again with a smaller step, "
                "or load other parameters"
            )
