"""Settings of a deep ensemble."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.checks import check_count


@dataclass(frozen=True)
class DeepEnsemblePosteriorApproximator:
    """Networks that were trained apart, each from initial parameters and in an order of its own.

    Parameters
    ----------
    ensemble_size : int
        How many there are.

    Raises
    ------
    InvalidArgumentError
        If `ensemble_size` is no whole number from 1 on.
    """

    ensemble_size: int = 5

    def __post_init__(self) -> None:
        check_count("ensemble_size", self.ensemble_size, 1)

    def __str__(self) -> str:
        return "deep_ensemble"
