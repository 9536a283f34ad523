"""Statistics of a class label whose distribution is an equal mixture of categoricals.

A mixture is what a posterior predictive is by Monte Carlo: S weight samples give the logits of B
points, shape ``(S, B, C)``. Everything is computed from log-probabilities.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from hoarfrost.dtypes import at_least_float32, widest


def log_probs(outputs: jax.Array) -> jax.Array:
    """Log-probabilities of all classes under each sample, shape ``(S, B, C)``."""
    return jax.nn.log_softmax(at_least_float32(outputs), axis=2)


def ensemble_log_prob(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Log-probability of the targets under each sample, shape ``(S, B)``.

    Float64 within `hoarfrost.dtypes.in_float64`.
    """
    index = targets.astype(jnp.int32)[None, :, None]
    return jnp.take_along_axis(log_probs(widest(outputs)), index, axis=2)[:, :, 0]


def log_prob(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Log-probability of the targets under the mixture, shape ``(B,)``."""
    return _log_mean(ensemble_log_prob(outputs, targets))


def mean(outputs: jax.Array) -> jax.Array:
    """Probabilities under the mixture, shape ``(B, C)``."""
    return jnp.exp(_log_mean(log_probs(outputs)))


def mode(outputs: jax.Array) -> jax.Array:
    """The most probable class under the mixture, shape ``(B,)``."""
    return jnp.argmax(mean(outputs), axis=1)


def aleatoric_variance(outputs: jax.Array) -> jax.Array:
    """``E_W[Var(Y | W)]`` of the one-hot label, shape ``(B, C)``."""
    p = jnp.exp(log_probs(outputs))
    return jnp.mean(p * (1 - p), axis=0)


def epistemic_variance(outputs: jax.Array) -> jax.Array:
    """``Var_W[E(Y | W)]`` of the one-hot label, shape ``(B, C)``."""
    return jnp.var(jnp.exp(log_probs(outputs)), axis=0)


def variance(outputs: jax.Array) -> jax.Array:
    """The sum of the two, shape ``(B, C)``."""
    return aleatoric_variance(outputs) + epistemic_variance(outputs)


def entropy(outputs: jax.Array) -> jax.Array:
    """Entropy of the mixture in nats, shape ``(B,)``."""
    return _entropy(_log_mean(log_probs(outputs)))


def aleatoric_entropy(outputs: jax.Array) -> jax.Array:
    """Mean entropy under a sample in nats, shape ``(B,)``."""
    return jnp.mean(_entropy(log_probs(outputs)), axis=0)


def epistemic_entropy(outputs: jax.Array) -> jax.Array:
    """Mutual information of label and weights in nats, never negative, shape ``(B,)``."""
    return jnp.maximum(entropy(outputs) - aleatoric_entropy(outputs), 0)


def sample(outputs: jax.Array, key: jax.Array) -> jax.Array:
    """One label for each sample and point, int32, shape ``(S, B)``."""
    return jax.random.categorical(key, log_probs(outputs), axis=2).astype(jnp.int32)


def raw(outputs: jax.Array) -> jax.Array:
    """The outputs as they are, shape ``(S, B, C)``."""
    return outputs


def _log_mean(log_p: jax.Array) -> jax.Array:
    return jax.scipy.special.logsumexp(log_p, axis=0) - jnp.log(float(log_p.shape[0]))


def _entropy(log_p: jax.Array) -> jax.Array:
    # Log-probabilities of softmax logits are finite, so that 0 log 0 comes out as 0.
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
