"""The priors, where code written for Fortuna looks for them."""

from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior, Prior

__all__ = ["DiagonalGaussianPrior", "IsotropicGaussianPrior", "Prior"]
