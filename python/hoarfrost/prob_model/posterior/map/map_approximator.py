"""A point mass as the posterior of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MAPPosteriorApproximator:
    """A point mass at the maximum a posteriori."""

    def __str__(self) -> str:
        return "map"
