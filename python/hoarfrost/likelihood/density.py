"""Log-densities in float64 from the outputs on, whatever the network computes in.

A log-density is a small difference of large terms: in float32 a hundred counts of a million lose
82 nats. The likelihoods here are evaluated in float64; one of a user's own as it is written.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax

from hoarfrost.dtypes import in_float64, widest
from hoarfrost.likelihood.base import Likelihood
from hoarfrost.likelihood.bernoulli import Bernoulli
from hoarfrost.likelihood.categorical import Categorical
from hoarfrost.likelihood.gaussian import Gaussian
from hoarfrost.likelihood.heteroscedastic import HeteroscedasticGaussian
from hoarfrost.likelihood.poisson import Poisson

_OURS = (Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson)


def takes_counts(likelihood: Likelihood) -> bool:
    """Whether targets are counts, whole numbers of any size that are computed with as real ones."""
    return isinstance(likelihood, Poisson)


def density_precision(likelihood: Likelihood) -> AbstractContextManager[Any]:
    """The block in which programs that hold `exact_log_prob` are called."""
    return in_float64() if isinstance(likelihood, _OURS) else nullcontext()


def exact_log_prob(likelihood: Likelihood, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Log-density of each target, shape ``(B,)``: float64 within `density_precision`."""
    return likelihood.log_prob(
        widest(outputs) if isinstance(likelihood, _OURS) else outputs, targets
    )
