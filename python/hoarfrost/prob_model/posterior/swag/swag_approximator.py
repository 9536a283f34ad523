"""Settings of SWAG."""

from __future__ import annotations

from dataclasses import dataclass

from hoarfrost.checks import check_count


@dataclass(frozen=True)
class SWAGPosteriorApproximator:
    """A Gaussian of the mean and the spread of an optimiser's iterates about the MAP.

    Parameters
    ----------
    rank : int
        Of the part of the covariance that is not diagonal, at least 2; ``n_epochs`` must be more.

    Raises
    ------
    InvalidArgumentError
        If `rank` is no whole number from 2 on.
    """

    rank: int = 5

    def __post_init__(self) -> None:
        check_count("rank", self.rank, 2)

    def __str__(self) -> str:
        return "swag"
