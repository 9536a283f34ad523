"""The prior precision that predicts held-out data best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from hoarfrost.errors import NotPositiveDefiniteError
from hoarfrost.laplace.evidence.bounded_search import BoundedMaximum, bounded_maximum
from hoarfrost.types import Array


class Candidate(Protocol):
    """A posterior that predicts."""

    def log_prob(self, data_loader: Any, link: Any, n_samples: int, seed: int) -> Array:
        """Log-density of each target, shape ``(N,)``."""


Posterior = TypeVar("Posterior", bound=Candidate)


@dataclass(frozen=True)
class Question:
    """What is asked of held-out data, as in ``log_prob``: the same draws for every candidate."""

    data_loader: Any
    link: Any = None
    n_samples: int = 100
    seed: int = 0

    def mean_log_prob(self, candidate: Callable[[], Candidate]) -> float:
        """Of a posterior; minus infinity where its prior is too small for rounding."""
        try:
            made = candidate()
        except NotPositiveDefiniteError:
            return -math.inf
        found = made.log_prob(self.data_loader, self.link, self.n_samples, self.seed)
        return float(np.mean(found, dtype=float))


def best_on_held_out_data(
    candidate: Callable[[float], Posterior],
    question: Question,
    bounds: tuple[float, float],
    *,
    grid_size: int = 9,
) -> tuple[Posterior, BoundedMaximum]:
    """The posterior of the largest mean log-density of held-out targets, over one number.

    Parameters
    ----------
    candidate : callable (float) -> posterior
        What is tried.
    question : Question
        The data.
    bounds : pair of float
        Of that number.
    grid_size : int
        As in `bounded_maximum`.

    Raises
    ------
    NotPositiveDefiniteError
        If no candidate has a posterior precision that is positive definite to working accuracy.
    """
    found = bounded_maximum(
        lambda number: question.mean_log_prob(lambda: candidate(number)),
        *bounds,
        grid_size=grid_size,
    )
    return candidate(found.argument), found


@dataclass(frozen=True)
class HeldOut:
    """What a search by held-out data found, and how it can be checked.

    Attributes
    ----------
    parameters : tuple of str
        What was searched over.
    prior_precision : float or tree
        Of the posterior now.
    temperature : float
        Of the posterior now.
    log_prob, log_prob_before : float
        Mean log-density of the held-out targets, at the end and at the start.
    gradient : tuple of float
        Its derivative in the logarithm of each parameter at the end, by differences, in the order
        of `parameters`: near 0 at a maximum within the bounds.
    at_bound : tuple of str
        Parameters that lie at a bound, which decided them.
    evaluations : int
        Priors that were tried, one factorisation each.
    """

    parameters: tuple[str, ...]
    prior_precision: Any
    temperature: float
    log_prob: float
    log_prob_before: float
    gradient: tuple[float, ...]
    at_bound: tuple[str, ...]
    evaluations: int


@dataclass(frozen=True)
class Pair:
    """Where the density of held-out data is largest, over two logarithms.

    Attributes
    ----------
    product, log_temperature : float
        The place.
    value : float
        The density there.
    evaluations : int
        Products that were tried.
    """

    product: float
    log_temperature: float
    value: float
    evaluations: int


# Temperatures that are tried at once, twice: over all, then between the neighbours of the best.
_AT_ONCE = 33


def best_pair(
    mean_log_probs: Callable[[float, Array], Array], bounds: tuple[float, float], grid_size: int
) -> Pair:
    """The maximum over the logarithms of a prior's factor and of a temperature's.

    ``H / t + s T = (H + s t T) / t``: under one product ``s t`` all temperatures share a factor,
    and one pass over the data serves for many of them.

    Parameters
    ----------
    mean_log_probs : callable (float, ndarray) -> ndarray
        Of the logarithm of the product, and of those of temperatures.
    bounds : pair of float
        Of the logarithm of either factor.
    grid_size : int
        Of one factor, as in `bounded_maximum`; the product has nearly twice as many.
    """
    low, high = bounds
    found: dict[float, tuple[float, float]] = {}

    def best_temperature(product: float) -> float:
        # Both factors stay within their bounds.
        least, most = max(low, product - high), min(high, product - low)
        try:
            coarse = np.linspace(least, most, _AT_ONCE)
            middle = coarse[int(np.argmax(mean_log_probs(product, coarse)))]
            step = coarse[1] - coarse[0]
            fine = np.linspace(max(least, middle - step), min(most, middle + step), _AT_ONCE)
            values = mean_log_probs(product, fine)
        except NotPositiveDefiniteError:
            # A prior too small for rounding has no posterior: it is no candidate.
            return -math.inf
        best = int(np.argmax(values))
        found[product] = (float(values[best]), float(fine[best]))
        return found[product][0]

    maximum = bounded_maximum(best_temperature, 2 * low, 2 * high, grid_size=2 * grid_size - 1)
    value, temperature = found[maximum.argument]
    return Pair(maximum.argument, temperature, value, maximum.evaluations)
