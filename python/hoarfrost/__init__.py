"""Bayesian inference at scale for Flax: an exact Laplace posterior over part of a network.

Freeze most of a trained network and call :func:`fit_laplace`, or come from Fortuna through
:mod:`hoarfrost.prob_model`, whose names and arguments are Fortuna's.
"""

from hoarfrost import data, errors, likelihood, metric
from hoarfrost._core import __version__
from hoarfrost.laplace import Laplace, fit_laplace

__all__ = [
    "Laplace",
    "__version__",
    "data",
    "errors",
    "fit_laplace",
    "likelihood",
    "metric",
]
