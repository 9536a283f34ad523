"""Statistics of real targets whose distribution is an equal mixture of Gaussians.

A mixture is what a posterior predictive is by Monte Carlo: S weight samples give means and
log-variances of D targets of B points, `outputs` of shape ``(S, B, 2 D)`` as
`HeteroscedasticGaussian` takes them. Given the weights, targets of a point are independent.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from hoarfrost.dtypes import at_least_float32, widest
from hoarfrost.likelihood.heteroscedastic import HeteroscedasticGaussian, split_outputs

# Halvings that take an interval below the rounding of float32 or float64.
_HALVINGS = {4: 32, 8: 64}


def means_and_stds(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and standard deviations of the components, each ``(S, B, D)``."""
    mean, log_variance = split_outputs(at_least_float32(outputs))
    return mean, jnp.exp(log_variance / 2)


def raw(outputs: jax.Array) -> jax.Array:
    """The outputs as they are, shape ``(S, B, 2 D)``."""
    return outputs


def ensemble_log_prob(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Log-density of the targets under each sample, shape ``(S, B)``.

    Float64 within `hoarfrost.dtypes.in_float64`.
    """
    outputs = widest(outputs)
    return jax.vmap(lambda one: HeteroscedasticGaussian().log_prob(one, targets))(outputs)


def log_prob(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Log-density of the targets under the mixture, shape ``(B,)``."""
    log_p = ensemble_log_prob(outputs, targets)
    return jax.scipy.special.logsumexp(log_p, axis=0) - math.log(log_p.shape[0])


def mean(outputs: jax.Array) -> jax.Array:
    """Mean of the mixture, shape ``(B, D)``."""
    return jnp.mean(means_and_stds(outputs)[0], axis=0)


def aleatoric_variance(outputs: jax.Array) -> jax.Array:
    """``E_W[Var(Y | W)]``, the noise, shape ``(B, D)``."""
    return jnp.mean(means_and_stds(outputs)[1] ** 2, axis=0)


def epistemic_variance(outputs: jax.Array) -> jax.Array:
    """``Var_W[E(Y | W)]``, shape ``(B, D)``."""
    return jnp.var(means_and_stds(outputs)[0], axis=0)


def variance(outputs: jax.Array) -> jax.Array:
    """Variance of the mixture: the sum of the two, shape ``(B, D)``."""
    return aleatoric_variance(outputs) + epistemic_variance(outputs)


def aleatoric_entropy(outputs: jax.Array) -> jax.Array:
    """Mean entropy under a sample in nats, all targets of a point together, shape ``(B,)``."""
    log_variance = split_outputs(at_least_float32(outputs))[1]
    terms = (log_variance + math.log(2 * math.pi) + 1) / 2
    return jnp.mean(jnp.sum(terms, axis=2), axis=0)


def entropy(outputs: jax.Array, key: jax.Array, n_target_samples: int) -> jax.Array:
    """Entropy of the mixture in nats, shape ``(B,)``: aleatoric and epistemic together."""
    return aleatoric_entropy(outputs) + epistemic_entropy(outputs, key, n_target_samples)


def epistemic_entropy(outputs: jax.Array, key: jax.Array, n_target_samples: int) -> jax.Array:
    """Mutual information of targets and weights in nats, never negative, shape ``(B,)``.

    ``log p(y | w) - log p(y)`` is averaged over `n_target_samples` targets from each of the S
    components. Both terms see the same target, so that most of what is random in them cancels.
    """
    if outputs.shape[0] == 1:
        return jnp.zeros(outputs.shape[1], at_least_float32(outputs).dtype)

    def one(draw_key: jax.Array) -> jax.Array:
        drawn = sample(outputs, draw_key)
        own = jax.vmap(HeteroscedasticGaussian().log_prob)(outputs, drawn)
        mixed = jax.lax.map(lambda targets: log_prob(outputs, targets), drawn)
        return jnp.mean(own - mixed, axis=0)

    information = jax.lax.map(one, jax.random.split(key, n_target_samples))
    return jnp.maximum(jnp.mean(information, axis=0), 0)


def sample(outputs: jax.Array, key: jax.Array) -> jax.Array:
    """One draw of the targets for each sample and point, shape ``(S, B, D)``."""
    centre, std = means_and_stds(outputs)
    return centre + std * jax.random.normal(key, centre.shape, centre.dtype)


def quantiles(outputs: jax.Array, levels: jax.Array) -> jax.Array:
    """Quantiles of each target's mixture, exact to rounding, shape ``(len(levels), B, D)``.

    A mixture's quantile lies between the least and the largest quantile of its components; the
    interval between them is halved until it is as short as rounding allows. Float64 within
    `hoarfrost.dtypes.in_float64`, as levels near 0 and 1 need.
    """
    centre, std = means_and_stds(widest(outputs))

    def one(level: jax.Array) -> jax.Array:
        each = centre + std * jax.scipy.special.ndtri(level)
        bounds = jnp.min(each, axis=0), jnp.max(each, axis=0)

        def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds
            middle = low + (high - low) / 2
            below = jnp.mean(jax.scipy.special.ndtr((middle - centre) / std), axis=0) < level
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        low, high = jax.lax.fori_loop(0, _HALVINGS[centre.dtype.itemsize], halve, bounds)
        return low + (high - low) / 2

    return jax.lax.map(one, jnp.asarray(levels, centre.dtype))
