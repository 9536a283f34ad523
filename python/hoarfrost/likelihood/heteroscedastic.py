"""Real targets with Gaussian noise whose variance the network predicts too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import ShapeError
from hoarfrost.likelihood.base import check_finite_targets, exponential_weights
from hoarfrost.types import pytree


@pytree
@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """Gaussian noise with a predicted variance: ``p(y | m, s) = N(y; m, diag(exp(s)))``.

    The network has two outputs a target: with D targets, outputs of shape ``(B, 2 D)`` hold the
    means `m` first and then the log-variances `s`. Targets have shape ``(B, D)``; ``(B,)`` too
    where D is 1.
    """

    name: ClassVar[str] = "heteroscedastic_gaussian"
    gaussian_targets: ClassVar[bool] = True
    head: ClassVar[Literal["softmax", "independent"]] = "independent"

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless outputs are ``(B, 2 D)``."""
        if len(shape) != 2 or shape[1] < 2 or shape[1] % 2:
            raise ShapeError(
                f"the network's outputs have shape {tuple(shape)}; the {self.name} likelihood "
                "needs (batch, 2 D): D means, then D log-variances"
            )

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error unless targets are finite and one for each mean."""
        num_targets = num_outputs // 2
        single = targets.ndim == 1 and num_targets == 1
        if not single and (targets.ndim != 2 or targets.shape[1] != num_targets):
            raise ShapeError(
                f"targets of batch {batch_index} have shape {targets.shape}; with "
                f"{num_targets} predicted mean{'s' if num_targets > 1 else ''} a point the "
                f"{self.name} likelihood needs (batch, {num_targets})"
                f"{' or (batch,)' if num_targets == 1 else ''}"
            )
        check_finite_targets(targets, batch_index)

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """``-sum_d (exp(-s) (y - m)^2 + s + log(2 pi)) / 2``, shape ``(B,)``."""
        mean, log_variance = split_outputs(at_least_float32(outputs))
        # Reshaped, so that targets of shape (B,) are never broadcast against (B, 1).
        residual = targets.reshape(mean.shape).astype(mean.dtype) - mean
        # Halves of the exponent: a variance of which 1 / v is too large may still have a root.
        scaled = residual * jnp.exp(-log_variance / 2)
        terms = scaled**2 + log_variance + math.log(2 * math.pi)
        return -jnp.sum(terms, axis=1) / 2

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """The Fisher information ``diag(exp(-s), 1/2)``, shape ``(B, 2 D, 2 D)``.

        The Hessian at an observed target is indefinite, its expectation is not.
        """
        mean, log_variance = split_outputs(at_least_float32(outputs))
        return _diagonal(jnp.exp(-log_variance), jnp.full_like(mean, 0.5))

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """``diag(exp(-s / 2), sqrt(1/2))``, shape ``(B, 2 D, 2 D)``."""
        mean, log_variance = split_outputs(at_least_float32(outputs))
        return _diagonal(jnp.exp(-log_variance / 2), jnp.full_like(mean, math.sqrt(0.5)))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """The predicted means, shape ``(B, D)``."""
        return split_outputs(at_least_float32(outputs))[0]

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Variance of the targets at these outputs, ``exp(s)``, shape ``(B, D)``."""
        return jnp.exp(split_outputs(at_least_float32(outputs))[1])

    def target_moments(
        self, outputs: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, epistemic variance and noise variance of the targets; see `Regression`.

        The noise is the mean of a log-normal, ``exp(s + V_s / 2)``; infinite where float64 ends.
        """
        outputs, variance = np.asarray(outputs, np.float64), np.asarray(variance, np.float64)
        num_targets = outputs.shape[1] // 2
        with np.errstate(over="ignore"):
            noise = np.exp(outputs[:, num_targets:] + variance[:, num_targets:] / 2)
        return outputs[:, :num_targets], variance[:, :num_targets], noise

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """``(exp(-s), 1/2)`` in float64, shape ``(B, 2 D)``."""
        outputs = np.asarray(outputs, dtype=np.float64)
        weights = np.full_like(outputs, 0.5)
        num_targets = outputs.shape[1] // 2
        precision = exponential_weights(-outputs[:, num_targets:], "minus a log-variance")
        weights[:, :num_targets] = precision
        return weights


def split_outputs(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two halves of the last axis: means and log-variances."""
    num_targets = outputs.shape[-1] // 2
    return outputs[..., :num_targets], outputs[..., num_targets:]


def _diagonal(first: jax.Array, second: jax.Array) -> jax.Array:
    values = jnp.concatenate([first, second], axis=1)
    return jnp.eye(values.shape[1], dtype=values.dtype)[None] * values[:, :, None]
