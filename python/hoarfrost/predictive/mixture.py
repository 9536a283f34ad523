"""What is predicted from S samples of the outputs, of the linearised network or of the network.

Each statistic is a pytree of its likelihood's numbers, an argument of a compiled program; it takes
outputs of shape ``(S, B, C)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.likelihood import Classification, Likelihood, exact_log_prob
from hoarfrost.types import pytree


@pytree
@dataclass(frozen=True)
class LogProbabilities:
    """Logarithm of the mean probability of each class (of a 1, for Bernoulli), ``(B, C)``."""

    likelihood: Classification

    def __call__(self, outputs: jax.Array) -> jax.Array:
        """The statistic."""
        return log_mean(self.likelihood.log_probs(outputs))


@pytree
@dataclass(frozen=True)
class Mean:
    """Mean of the targets, ``(B, D)``."""

    likelihood: Likelihood

    def __call__(self, outputs: jax.Array) -> jax.Array:
        """The statistic."""
        return jnp.mean(jax.vmap(self.likelihood.mean)(outputs), axis=0)


@pytree
@dataclass(frozen=True)
class Moments:
    """Mean of the targets, variance of that mean and mean of their noise, ``(3, B, D)``."""

    likelihood: Any

    def __call__(self, outputs: jax.Array) -> jax.Array:
        """The statistic."""
        means = jax.vmap(self.likelihood.mean)(outputs)
        noise = jax.vmap(self.likelihood.variance)(outputs)
        return jnp.stack([jnp.mean(means, axis=0), jnp.var(means, axis=0), jnp.mean(noise, axis=0)])


@pytree
@dataclass(frozen=True)
class TargetLogProb:
    """Log-density of the targets under the mixture, ``(B,)``; see `density_precision`."""

    likelihood: Likelihood

    def __call__(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """The statistic."""
        return log_mean(
            jax.vmap(lambda one: exact_log_prob(self.likelihood, one, targets))(outputs)
        )


@jax.jit
def evaluate(
    statistic: Callable[..., jax.Array], outputs: jax.Array, *rest: jax.Array
) -> jax.Array:
    """A statistic as one compiled program."""
    return statistic(outputs, *rest)


def log_mean(log_p: jax.Array) -> jax.Array:
    """Logarithm of the mean over the samples of what has these logarithms."""
    return jax.scipy.special.logsumexp(log_p, axis=0) - jnp.log(float(log_p.shape[0]))


def statistic(quantity: str, likelihood: Likelihood) -> Callable[..., jax.Array]:
    """The statistic of a mixture that gives a quantity of `hoarfrost.predictive.link.base`."""
    kinds: dict[str, Any] = {
        "probabilities": LogProbabilities,
        "moments": Moments,
        "mean": Mean,
        "density": TargetLogProb,
    }
    made: Callable[..., jax.Array] = kinds[quantity](likelihood)
    return made
