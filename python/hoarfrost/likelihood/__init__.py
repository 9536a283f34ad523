"""Log-likelihoods, the curvature of their outputs, and its root: one file a likelihood."""

from hoarfrost.likelihood.base import Likelihood, resolve
from hoarfrost.likelihood.bernoulli import Bernoulli
from hoarfrost.likelihood.categorical import Categorical
from hoarfrost.likelihood.gaussian import Gaussian

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Likelihood", "resolve"]
