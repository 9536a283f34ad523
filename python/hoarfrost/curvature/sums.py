"""What a pass over the data adds up beside the curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hoarfrost.curvature.stream import Piece
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the points so far.

    Attributes
    ----------
    num_data : int
        Number of points.
    log_likelihood : float
        Of their targets, constants included.
    squares : ndarray or None
        Squared residuals of each output, shape ``(C,)``, float64; None where outputs are no means.
    """

    num_data: int = 0
    log_likelihood: float = 0.0
    squares: Array | None = None

    def add(self, piece: Piece) -> Sums:
        """The sums with the points of a piece, which has targets."""
        assert piece.log_prob is not None
        squares = self.squares
        if squares is not None:
            squares = squares + sum_of_squares(piece.outputs, piece.targets)
        return Sums(
            self.num_data + len(piece.outputs),
            self.log_likelihood + float(np.sum(piece.log_prob, dtype=np.float64)),
            squares,
        )


def sum_of_squares(outputs: Array, targets: Any) -> Array:
    """Squared residuals of some points, summed in float64, shape ``(C,)``."""
    difference = np.asarray(targets, dtype=np.float64).reshape(outputs.shape) - outputs
    total: Array = np.einsum("bc,bc->c", difference, difference)
    return total
