"""Counts, by the logarithm of their rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.likelihood.base import (
    check_finite_targets,
    check_matrix_outputs,
    exponential_weights,
)
from hoarfrost.types import pytree


@pytree
@dataclass(frozen=True)
class Poisson:
    """Independent Poisson counts with the log link: ``p(y_c | f) = Poisson(y_c; exp(f_c))``.

    Targets are whole numbers that are not negative, shape ``(B, C)``; ``(B,)`` too where there is
    a single output.
    """

    name: ClassVar[str] = "poisson"
    head: ClassVar[Literal["softmax", "independent"]] = "independent"

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless outputs are ``(B, C)``."""
        check_matrix_outputs(self.name, shape, 1, "let the network return one log-rate a count")

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error unless targets are counts and as many as the outputs."""
        single = targets.ndim == 1 and num_outputs == 1
        if not single and (targets.ndim != 2 or targets.shape[1] != num_outputs):
            raise ShapeError(
                f"targets of batch {batch_index} have shape {targets.shape}; the poisson "
                f"likelihood needs (batch, {num_outputs}), one count for each output"
            )
        check_finite_targets(targets, batch_index)
        values = targets.astype(np.float64, copy=False)
        wrong = values[(values < 0) | (values != np.floor(values))]
        if wrong.size:
            raise InvalidArgumentError(
                f"targets of batch {batch_index} hold {wrong[0]}; counts must be whole numbers "
                "that are not negative"
            )

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """``sum_c y f - exp(f) - log y!``, shape ``(B,)``."""
        outputs = at_least_float32(outputs)
        counts = targets.reshape(outputs.shape).astype(outputs.dtype)
        return jnp.sum(_log_density(outputs, counts), axis=1)

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """``diag(exp(f))``, shape ``(B, C, C)``."""
        rate = self.mean(outputs)
        return jnp.eye(rate.shape[1], dtype=rate.dtype)[None] * rate[:, :, None]

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """``diag(exp(f / 2))``, shape ``(B, C, C)``."""
        root = jnp.exp(at_least_float32(outputs) / 2)
        return jnp.eye(root.shape[1], dtype=root.dtype)[None] * root[:, :, None]

    def mean(self, outputs: jax.Array) -> jax.Array:
        """The rate ``exp(f)``, shape ``(B, C)``."""
        return jnp.exp(at_least_float32(outputs))

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Variance of the counts at these outputs: the rate again, shape ``(B, C)``."""
        return self.mean(outputs)

    def target_moments(
        self, outputs: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, epistemic variance and noise variance of the counts; see `Regression`.

        The rate is log-normal: its mean is ``exp(f + V / 2)``, its variance the mean's square
        times ``exp(V) - 1``, and the mean of the counts' own variance is the rate's mean.
        """
        outputs, variance = np.asarray(outputs, np.float64), np.asarray(variance, np.float64)
        with np.errstate(over="ignore"):
            rate = np.exp(outputs + variance / 2)
            return rate, rate**2 * np.expm1(variance), rate

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """``exp(f)`` in float64, shape ``(B, C)``."""
        return exponential_weights(np.asarray(outputs, dtype=np.float64), "a log-rate")


# From this count on Stirling's series with four terms is exact to the rounding of float64.
_MANY = 16


def _log_density(outputs: jax.Array, counts: jax.Array) -> jax.Array:
    """``y f - exp(f) - log y!`` without the difference of terms that grow like ``y log y``.

    Of many counts: ``-y (exp(d) - 1 - d) - log(2 pi y) / 2 - r(y)`` with ``d = f - log y`` and the
    remainder r of Stirling's formula (Loader, 2000).
    """
    many = counts >= _MANY
    # Each form sees numbers of its own range, so that the derivative of the other is finite.
    few_counts, few_outputs = jnp.where(many, 0, counts), jnp.where(many, 0, outputs)
    few = few_counts * few_outputs - jnp.exp(few_outputs) - jax.lax.lgamma(few_counts + 1)
    y = jnp.where(many, counts, _MANY)
    distance = jnp.where(many, outputs, math.log(_MANY)) - jnp.log(y)
    remainder = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * y**2)) / y**2) / y**2) / y
    deviance = y * (jnp.expm1(distance) - distance)
    return jnp.where(many, -deviance - jnp.log(2 * math.pi * y) / 2 - remainder, few)
