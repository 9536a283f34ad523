"""Temperature scaling: one number that makes all predictions more, or less, sure.

Guo et al. (2017), On calibration of modern neural networks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn


class ClassificationTemperatureScaler(nn.Module):  # type: ignore[misc]
    """Logits divided by a temperature, ``f exp(-log_temp)``; it never changes the likeliest class.

    Its one parameter `log_temp` has shape ``(1,)`` and starts at 0, which changes nothing.
    """

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, outputs: jax.Array) -> jax.Array:
        """Scaled logits, shaped like `outputs`, ``(..., C)``."""
        log_temp = self.param("log_temp", nn.initializers.zeros, (1,))
        return outputs * jnp.exp(-log_temp[0]).astype(outputs.dtype)


class RegressionTemperatureScaler(nn.Module):  # type: ignore[misc]
    """Predicted variances times a temperature; it never changes the predicted means.

    Outputs hold D means and then D logarithms of variances, to each of which `log_temp`, a
    parameter of shape ``(1,)`` that starts at 0, is added.
    """

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, outputs: jax.Array) -> jax.Array:
        """Outputs with scaled variances, shaped like `outputs`, ``(..., 2 D)``."""
        log_temp = self.param("log_temp", nn.initializers.zeros, (1,))
        mean, log_variance = jnp.split(outputs, 2, axis=-1)
        scaled = log_variance + log_temp[0].astype(outputs.dtype)
        return jnp.concatenate([mean, scaled], axis=-1)
