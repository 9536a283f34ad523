"""Priors over all parameters, and a prior's precision and mean over the trainable ones.

A prior of your own derives from `Prior` and defines ``log_joint_prob(params)`` and
``sample(params_like, rng)``.
"""

from hoarfrost.prior.base import Prior, check_prior, log_prior_density
from hoarfrost.prior.gaussian import (
    DiagonalGaussianPrior,
    GaussianPrior,
    IsotropicGaussianPrior,
    gaussian_prior,
    num_parameters,
)
from hoarfrost.prior.mean import array_tree
from hoarfrost.prior.precision import (
    PriorPrecision,
    resolve_prior_mean,
    resolve_prior_precision,
)

__all__ = [
    "DiagonalGaussianPrior",
    "GaussianPrior",
    "IsotropicGaussianPrior",
    "Prior",
    "PriorPrecision",
    "array_tree",
    "check_prior",
    "gaussian_prior",
    "log_prior_density",
    "num_parameters",
    "resolve_prior_mean",
    "resolve_prior_precision",
]
