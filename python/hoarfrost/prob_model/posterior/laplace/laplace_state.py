"""The state of a Laplace posterior."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.freezing import Partition
from hoarfrost.laplace import Laplace
from hoarfrost.prob_model.state import PosteriorState
from hoarfrost.types import Tree


@dataclass(frozen=True)
class LaplaceState(PosteriorState):
    """The MAP at every leaf, with the posterior over the trainable ones.

    Attributes
    ----------
    partition : Partition
        Which leaves are trainable.
    laplace : hoarfrost.Laplace
        The posterior over them.
    """

    partition: Partition = dataclasses.field(kw_only=True)
    laplace: Laplace = dataclasses.field(kw_only=True)

    @property
    def prior_log_var(self) -> float | Tree:
        """Log-variance of the prior: a float, or a tree where not all parameters have the same."""
        precision = self.laplace.prior_precision
        if isinstance(precision, float):
            return -math.log(precision)
        return jax.tree.map(lambda leaf: -np.log(leaf), precision)

    def replace(self, **changes: Any) -> Any:
        """A copy in which some attributes are others.

        A posterior belongs to the parameters that it was fitted at: with other `params` or
        `mutable` the copy is a `PosteriorState`, which a Laplace fit can start from.
        """
        if not changes.keys() & {"params", "mutable"}:
            return super().replace(**changes)
        fields = dataclasses.fields(PosteriorState)
        plain = PosteriorState(**{field.name: getattr(self, field.name) for field in fields})
        return plain.replace(**changes)
