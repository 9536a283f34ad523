"""A state that holds a posterior over some of its parameters."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from hoarfrost.freezing import Partition
from hoarfrost.prob_model.state import PosteriorState


@dataclass(frozen=True)
class FittedState(PosteriorState):
    """Parameters at every leaf, with a posterior over the trainable ones.

    Attributes
    ----------
    partition : Partition
        Which leaves are trainable.
    """

    partition: Partition = dataclasses.field(kw_only=True)

    def replace(self, **changes: Any) -> Any:
        """A copy in which some attributes are others.

        A posterior belongs to the parameters that it was fitted at: with other `params` or
        `mutable` the copy is a `PosteriorState`, which a fit can start from.
        """
        if not changes.keys() & {"params", "mutable"}:
            return super().replace(**changes)
        fields = dataclasses.fields(PosteriorState)
        plain = PosteriorState(**{field.name: getattr(self, field.name) for field in fields})
        return plain.replace(**changes)
