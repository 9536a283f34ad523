"""Covariances of the outputs at many inputs in one array, each input alone or all together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.positions import in_positions
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.structure.base import Factor
from hoarfrost.memory import check_room
from hoarfrost.types import Array, Tree


def joint_covariance(linearised: LinearisedNetwork, factor: Factor, inputs: Tree) -> Array:
    """``J Sigma J^T`` over all points together, shape ``(B, C, B, C)``, float64.

    With positions ``(B, *positions, C, B, *positions, C)``.

    Raises
    ------
    MemoryLimitError
        If it does not fit.
    """
    linearised, inputs = linearised.given_inputs(inputs)
    linearised, batches = linearised.at(linearised.batches(inputs))
    points = sum(batch.size for batch in batches) * linearised.points_each
    check_room(
        f"the joint covariance of {linearised.num_outputs} outputs at {points:,} inputs, with what "
        "it is made from,",
        # The network's pass comes before it, and is over by then.
        max(
            factor.joint_bytes(points, linearised.num_outputs),
            linearised.passes(points).predicting,
        ),
        "give fewer inputs at once, or leave out joint=True",
    )
    found = factor.joint_covariance(_collected((p.block for p in linearised.walk(inputs)), points))
    return in_positions(in_positions(found, linearised.positions, 2), linearised.positions)


def covariance_at_each(
    linearised: LinearisedNetwork, factor: Factor, batches: Iterator[CheckedBatch]
) -> Array:
    """``J Sigma J^T`` at each point, shape ``(B, C, C)``, ``(B, *positions, C, C)``; float64.

    Raises
    ------
    MemoryLimitError
        If it does not fit, before the work where the inputs come as one array.
    """
    linearised, batches = linearised.at(batches)
    ahead = list(itertools.islice(batches, 2))
    count, points = linearised.num_outputs, None
    if len(ahead) == 1:
        points = ahead[0].size * linearised.points_each
        check_room(
            f"the covariance of {count} outputs at each of {points:,} inputs",
            8 * points * count**2,
            "give fewer inputs at once, or use functional_variance",
        )
    outputs = linearised.gaussian_outputs(factor, itertools.chain(ahead, batches), "covariance")
    found = _collected((piece.known_covariance for piece in outputs), points)
    return in_positions(found, linearised.positions)


def _collected(pieces: Iterator[Array], points: int | None) -> Array:
    """All pieces in one array; one by one into it where it is known how many points there are."""
    first = next(pieces)
    if points is None:
        return np.concatenate([first, *pieces])
    if len(first) == points:
        return first
    whole, start = np.empty((points, *first.shape[1:]), first.dtype), 0
    for piece in itertools.chain([first], pieces):
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole
