"""Gaussian priors over all parameters, and a prior's precision and mean over the trainable ones."""

from hoarfrost.prior.gaussian import (
    DiagonalGaussianPrior,
    GaussianPrior,
    IsotropicGaussianPrior,
    check_prior,
    num_parameters,
)
from hoarfrost.prior.precision import (
    PriorPrecision,
    resolve_prior_mean,
    resolve_prior_precision,
)

__all__ = [
    "DiagonalGaussianPrior",
    "GaussianPrior",
    "IsotropicGaussianPrior",
    "PriorPrecision",
    "check_prior",
    "num_parameters",
    "resolve_prior_mean",
    "resolve_prior_precision",
]
