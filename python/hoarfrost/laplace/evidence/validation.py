"""The prior precision that predicts held-out data best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from hoarfrost.errors import NotPositiveDefiniteError
from hoarfrost.laplace.evidence.bounded_search import BoundedMaximum, bounded_maximum
from hoarfrost.types import Array


class Candidate(Protocol):
    """A posterior whose prior can be another, and that predicts."""

    def with_prior_precision(self, prior_precision: Any) -> Self:
        """The same under another prior precision."""

    def log_prob(self, data_loader: Any, link: Any, n_samples: int, seed: int) -> Array:
        """Log-density of each target, shape ``(N,)``."""


Posterior = TypeVar("Posterior", bound=Candidate)


def best_on_held_out_data(
    posterior: Posterior,
    prior_at: Callable[[float], Any],
    data_loader: Any,
    bounds: tuple[float, float],
    *,
    link: Any = None,
    n_samples: int = 100,
    seed: int = 0,
    grid_size: int = 9,
) -> tuple[Posterior, BoundedMaximum]:
    """The posterior of the largest mean log-density of held-out targets, over one number.

    Parameters
    ----------
    prior_at : callable (float) -> prior precision
        What is tried.
    bounds : pair of float
        Of that number.
    link, n_samples, seed
        As in ``log_prob``; the same draws for every candidate, where the link draws any.
    grid_size : int
        As in `bounded_maximum`.

    Raises
    ------
    NotPositiveDefiniteError
        If no candidate has a posterior precision that is positive definite to working accuracy.
    """

    def mean_log_prob(number: float) -> float:
        try:
            candidate = posterior.with_prior_precision(prior_at(number))
        except NotPositiveDefiniteError:
            # A prior too small for rounding has no posterior: it is no candidate.
            return -math.inf
        return float(np.mean(candidate.log_prob(data_loader, link, n_samples, seed), dtype=float))

    found = bounded_maximum(mean_log_prob, *bounds, grid_size=grid_size)
    return posterior.with_prior_precision(prior_at(found.argument)), found
