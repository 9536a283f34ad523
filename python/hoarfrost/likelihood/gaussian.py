"""Real targets with Gaussian noise of a known standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import real_numbers, shown
from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.likelihood.base import check_finite_targets, check_matrix_outputs

# Squares of a standard deviation, of its inverse and of scaled residuals stay numbers.
_LEAST_STD = 1e-100


def sound_noise(noise_std: Any) -> np.ndarray:
    """Standard deviations in float64: one number, or a vector of them.

    Raises
    ------
    InvalidArgumentError
        If one is not a number between 1e-100 and 1e100: its precision must be a number too.
    """
    values = real_numbers(noise_std)
    if values is None or values.ndim > 1 or not values.size or not np.all(values > 0):
        raise InvalidArgumentError(
            f"noise_std is {shown(noise_std)}; give a positive number, or one for each output"
        )
    if values.min() < _LEAST_STD or values.max() > 1 / _LEAST_STD:
        raise InvalidArgumentError(
            f"noise_std is {shown(noise_std)}, of which the precision 1 / std^2 is out of range; "
            "give numbers between 1e-100 and 1e100, in another unit of the targets"
        )
    return values


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussian noise about the outputs: ``p(y | f) = N(y; f, diag(noise_std^2))``.

    Parameters
    ----------
    noise_std : float or sequence of float
        Standard deviation of the noise: one number, or one for each output. An array is kept as
        a tuple.

    Raises
    ------
    InvalidArgumentError
        If a standard deviation is not a number between 1e-100 and 1e100.
    """

    noise_std: float | Sequence[float] = 1.0

    name: ClassVar[str] = "gaussian"
    gaussian_targets: ClassVar[bool] = True
    head: ClassVar[Literal["softmax", "independent"]] = "independent"

    def __post_init__(self) -> None:
        values = sound_noise(self.noise_std)
        # A tuple rather than an array, so that likelihoods can be compared.
        kept = float(values) if values.ndim == 0 else tuple(float(v) for v in values)
        object.__setattr__(self, "noise_std", kept)

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless outputs are ``(B, C)`` and fit `noise_std`."""
        check_matrix_outputs(self.name, shape, 1, "let the network return one number a target")
        if isinstance(self.noise_std, tuple) and len(self.noise_std) != shape[1]:
            raise ShapeError(
                f"noise_std holds {len(self.noise_std)} numbers but the network has {shape[1]} "
                "outputs; give one number, or one for each output"
            )

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error unless targets are finite and shaped like the outputs."""
        if targets.ndim != 2 or targets.shape[1] != num_outputs:
            remedy = "; add an axis: targets[:, None]" if targets.ndim == 1 else ""
            raise ShapeError(
                f"targets of batch {batch_index} have shape {targets.shape}; the gaussian "
                f"likelihood needs (batch, {num_outputs}){remedy}"
            )
        check_finite_targets(targets, batch_index)

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """``sum_c -(y - f)^2 / (2 std^2) - log std - log(2 pi) / 2``, shape ``(B,)``."""
        outputs = at_least_float32(outputs)
        std = jnp.broadcast_to(jnp.asarray(self.noise_std, outputs.dtype), outputs.shape)
        scaled = (targets.astype(outputs.dtype) - outputs) / std
        return -jnp.sum(scaled**2 / 2 + jnp.log(std) + math.log(2 * math.pi) / 2, axis=1)

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """``diag(1 / std^2)``, shape ``(B, C, C)``."""
        return self.curvature_root(outputs) ** 2

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """``diag(1 / std)``, shape ``(B, C, C)``."""
        outputs = at_least_float32(outputs)
        std = jnp.broadcast_to(jnp.asarray(self.noise_std, outputs.dtype), outputs.shape)
        return jnp.eye(outputs.shape[1], dtype=outputs.dtype)[None] / std[:, :, None]

    def mean(self, outputs: jax.Array) -> jax.Array:
        """The outputs themselves, shape ``(B, C)``."""
        return outputs

    def variance(self, outputs: jax.Array) -> jax.Array:
        """``std^2`` for every point, shape ``(B, C)``."""
        outputs = at_least_float32(outputs)
        return jnp.broadcast_to(jnp.asarray(self.noise_std, outputs.dtype) ** 2, outputs.shape)

    def target_moments(
        self, outputs: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, epistemic variance and noise variance of the targets; see `Regression`."""
        outputs, variance = np.asarray(outputs, np.float64), np.asarray(variance, np.float64)
        noise = np.asarray(self.noise_std, dtype=np.float64) ** 2
        return outputs, variance, np.broadcast_to(noise, outputs.shape).copy()

    def marginal_log_prob(
        self, outputs: np.ndarray, covariance: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """``log N(y; f, V + diag(std^2))``, with what the outputs of a point share, ``(B,)``."""
        index = np.arange(outputs.shape[1])
        total = covariance.copy()
        total[:, index, index] += 1 / self.head_weights(outputs)
        root = np.linalg.cholesky(total)
        residuals = (targets.reshape(outputs.shape).astype(np.float64) - outputs)[:, :, None]
        whitened = np.linalg.solve(root, residuals)[:, :, 0]
        log_det = 2 * np.log(np.einsum("bcc->bc", root)).sum(axis=1)
        result: np.ndarray = -0.5 * (
            np.square(whitened).sum(axis=1) + log_det + outputs.shape[1] * math.log(2 * math.pi)
        )
        return result

    def noise_precision(self, num_outputs: int) -> np.ndarray:
        """``1 / std^2`` of each output, shape ``(C,)``, float64."""
        return np.asarray(self.noise_std, dtype=np.float64) ** -2.0 * np.ones(num_outputs)

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """``1 / std^2`` in float64, shape ``(B, C)``."""
        precision = np.asarray(self.noise_std, dtype=np.float64) ** -2.0
        return np.broadcast_to(precision, np.shape(outputs)).copy()


def _with_noise(_: None, children: tuple[Any]) -> Gaussian:
    """A likelihood of what JAX puts in, which may be a tracer: unchecked."""
    made = object.__new__(Gaussian)
    object.__setattr__(made, "noise_std", children[0])
    return made


jax.tree_util.register_pytree_node(Gaussian, lambda g: ((g.noise_std,), None), _with_noise)
