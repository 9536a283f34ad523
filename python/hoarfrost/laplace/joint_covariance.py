"""Covariance of the outputs at different inputs with each other."""

from __future__ import annotations

import numpy as np

from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.structure.base import Factor
from hoarfrost.memory import check_room
from hoarfrost.types import Array, Tree


def joint_covariance(linearised: LinearisedNetwork, factor: Factor, inputs: Tree) -> Array:
    """``J Sigma J^T`` over all points together, shape ``(B, C, B, C)``, float64.

    Raises
    ------
    MemoryLimitError
        If it does not fit.
    """
    points = sum(batch.size for batch in linearised.batches(inputs))
    check_room(
        f"the joint covariance of {linearised.num_outputs} outputs at {points:,} inputs, with what "
        "it is made from,",
        factor.joint_bytes(points, linearised.num_outputs),
        "give fewer inputs at once, or leave out joint=True",
    )
    block = np.concatenate([piece.block for piece in linearised.walk(inputs)])
    return factor.joint_covariance(block)
