"""A posterior's factor under another prior or noise: no new pass over the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.prior_precision import PriorPrecision, resolve_prior_precision
from hoarfrost.laplace.structures import Curvature, Factor, Scale

if TYPE_CHECKING:
    from hoarfrost.laplace.posterior import Laplace

Array = np.ndarray


def refactored(
    laplace: Laplace, prior_precision: Any = None, noise_std: float | Sequence[float] | None = None
) -> tuple[PriorPrecision, float, Factor]:
    """Prior, log-likelihood and factor under another prior or noise; None: as it is.

    Raises
    ------
    InvalidArgumentError
        If there is no such noise, or the curvature was not kept and does not come back.
    MemoryLimitError
        If it comes back from the factor, and there is no room for it.
    """
    prior = laplace.prior
    if prior_precision is not None:
        prior = resolve_prior_precision(prior_precision, laplace.linearised.trainable)
    log_likelihood, there = laplace.log_likelihood, laplace.noise_precision
    noise = there
    if noise_std is not None:
        if laplace.residuals is None:
            raise InvalidArgumentError(
                f"noise_std is {noise_std!r}, but the likelihood "
                f"{laplace.linearised.likelihood.name!r} has no Gaussian noise of a fixed size; "
                "leave it out"
            )
        noise = laplace.residuals.noise_precision_of(noise_std)
        log_likelihood = laplace.residuals.log_likelihood(noise)
    same_noise = noise is None or there is None or np.array_equal(noise, there)
    if same_noise and np.array_equal(prior.vector, laplace.prior.vector):
        return prior, log_likelihood, laplace.factor
    keep = laplace.curvature is not None
    what = "prior_precision" if noise_std is None else "noise_std"
    curvature = laplace.curvature or recovered_curvature(laplace, what)
    factor = curvature.factor(prior.vector, scale=noise_scale(laplace, noise), keep=keep)
    return prior, log_likelihood, factor


def noise_scale(laplace: Laplace, noise_precision: Array | None) -> Scale:
    """What the curvature is multiplied by under a noise: 1 under that of the fit."""
    if laplace.residuals is None or noise_precision is None:
        return 1.0
    return noise_precision / laplace.residuals.noise_precision


def recovered_curvature(laplace: Laplace, what: str) -> Curvature:
    """The curvature from the factor, so that `what` can be changed.

    Raises
    ------
    InvalidArgumentError
        If it does not come back.
    MemoryLimitError
        If there is no room for it.
    """
    curvature = laplace.factor.curvature(laplace.prior.vector, laplace.memory_budget)
    if curvature is None:
        raise InvalidArgumentError(
            f"{what} cannot be changed: the curvature was not kept beside the factor "
            "(keep_curvature=False, or 'auto' where memory did not allow it); fit again with "
            f"keep_curvature=True, or with this {what}"
        )
    return curvature
