"""What minimises the calibration loss."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import optax

from hoarfrost.prob_model.fit_config import FitOptimizer


@functools.cache
def _default_method() -> optax.GradientTransformation:
    """The default optimiser: one object, since compiled steps are kept for each optimiser."""
    return optax.adam(1e-2)


@dataclass(frozen=True)
class CalibOptimizer:
    """What minimises the calibration loss, and for how long.

    Parameters
    ----------
    method : optax.GradientTransformation
        The optimiser; by default ``optax.adam(1e-2)``.
    n_epochs : int
        Number of passes over the calibration data.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    method: optax.GradientTransformation = field(default_factory=_default_method)
    n_epochs: int = 100

    def __post_init__(self) -> None:
        # The rules are those of training.
        FitOptimizer(method=self.method, n_epochs=self.n_epochs)
