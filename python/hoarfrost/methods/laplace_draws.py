"""Draws of a Laplace posterior."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from hoarfrost.checks import seed_from_key
from hoarfrost.laplace import Laplace
from hoarfrost.methods.draws import Draws
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False)
class LaplaceDraws:
    """Draws of a Laplace posterior, its covariance multiplied by a number."""

    laplace: Laplace
    factor: float = 1.0

    @property
    def listed(self) -> None:
        """It has a density."""
        return None

    @property
    def mean(self) -> Tree:
        """The MAP."""
        return self.laplace.linearised.trainable

    @property
    def nbytes(self) -> int:
        """Of the factor of the precision."""
        return self.laplace.factor.nbytes

    def draw(self, key: jax.Array, n_samples: int) -> Draws:
        """Draws about the MAP."""
        drawn = self.laplace.sample(seed_from_key(key), n_samples)
        root = float(np.sqrt(self.factor))
        return Draws(jax.tree.map(lambda m, d: m + root * (d - m), self.mean, drawn))
