"""The state of a Laplace posterior."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import jax
import numpy as np

from hoarfrost.laplace import Laplace
from hoarfrost.prob_model.posterior.fitted import FittedState
from hoarfrost.types import Tree


@dataclass(frozen=True)
class LaplaceState(FittedState):
    """The MAP at every leaf, with the posterior over the trainable ones.

    Attributes
    ----------
    laplace : hoarfrost.Laplace
        The posterior over the trainable ones, which `partition` names.
    """

    laplace: Laplace = dataclasses.field(kw_only=True)

    @property
    def prior_log_var(self) -> float | Tree:
        """Log-variance of the prior: a float, or a tree where not all parameters have the same."""
        precision = self.laplace.prior_precision
        if isinstance(precision, float):
            return -math.log(precision)
        return jax.tree.map(lambda leaf: -np.log(leaf), precision)
