"""What a likelihood is, and the checks that all of them share."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import is_real
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError

Head = Literal["softmax", "independent", "general"]


@runtime_checkable
class Likelihood(Protocol):
    """The density of a target given the outputs of a network.

    A likelihood is a frozen dataclass and a pytree whose numbers are data, so that it is an
    argument of jitted programs: other numbers compile nothing again. One that is no pytree must be
    hashable, and is a static argument. With B points and C outputs each, every array argument
    `outputs` has shape ``(B, C)``.
    """

    @property
    def name(self) -> str:
        """The word by which a user asks for it."""

    @property
    def head(self) -> Head:
        """How the curvature of a last layer is assembled with it.

        "softmax": Lambda is ``diag(p) - p p^T``; "independent": Lambda is diagonal; "general": any
        other Lambda, for which rows of the Jacobian are formed.
        """

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` if outputs of this shape do not fit."""

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error that names the batch if targets do not fit; host-side."""

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Log-density of each target, constants included, shape ``(B,)``."""

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """Lambda, the Fisher information of the outputs, shape ``(B, C, C)``."""

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """A root of Lambda, shape ``(B, C, R)``: ``root @ root.T == Lambda``."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Mean of the targets (probabilities, for classes), shape ``(B, D)``; D is mostly C."""

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """Diagonal of Lambda in float64, shape ``(B, C)``."""


@runtime_checkable
class Classification(Likelihood, Protocol):
    """A likelihood whose mean is a probability: of classes, or of yes or no for each output.

    The two methods that start with "host" are NumPy's, in float64: a closed form is worked out
    there, whatever the network computes in.
    """

    def log_probs(self, outputs: jax.Array) -> jax.Array:
        """Log-probabilities that add up to `mean`, at least float32, shape ``(..., C)``."""

    def host_log_probs(self, outputs: np.ndarray) -> np.ndarray:
        """The same, shape ``(B, C)``."""

    def host_log_prob(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Log-probability of each target, shape ``(B,)``."""


@runtime_checkable
class MarginalDensity(Likelihood, Protocol):
    """A likelihood whose targets have a density in closed form where outputs are Gaussian."""

    def marginal_log_prob(
        self, outputs: np.ndarray, covariance: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """Log-density of each target, shape ``(B,)``.

        `outputs` are the means of the outputs, ``(B, C)``, and `covariance` their covariances,
        ``(B, C, C)``, both float64.
        """


@runtime_checkable
class Regression(Likelihood, Protocol):
    """A likelihood of numbers rather than classes, with moments in closed form.

    D is the number of targets a point, of which each may take more than one of the C outputs.
    """

    def variance(self, outputs: jax.Array) -> jax.Array:
        """Variance of the targets at given outputs, the noise, shape ``(B, D)``."""

    def target_moments(
        self, outputs: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moments of the targets where the outputs are Gaussian themselves.

        Parameters
        ----------
        outputs, variance : ndarray
            Means and variances of the outputs, shape ``(B, C)``.

        Returns
        -------
        mean, epistemic, noise : ndarray
            Each ``(B, D)``, float64: the mean of the targets, the variance of their mean, and the
            mean of their variance. The variance of the targets is the sum of the last two.
        """


def check_matrix_outputs(likelihood: str, shape: tuple[int, ...], least: int, remedy: str) -> None:
    """Raise `ShapeError` unless the outputs are ``(batch, C)`` with ``C >= least``."""
    if len(shape) != 2 or shape[1] < least:
        raise ShapeError(
            f"the network's outputs have shape {tuple(shape)}; the {likelihood} likelihood needs "
            f"(batch, outputs) with at least {least} outputs: {remedy}"
        )


def exponential_weights(logarithms: np.ndarray, what: str) -> np.ndarray:
    """Weights of the curvature from their logarithms, float64.

    Raises
    ------
    NonFiniteError
        If one is too large for float64.
    """
    with np.errstate(over="ignore"):
        weights: np.ndarray = np.exp(logarithms)
    if not np.isfinite(weights).all():
        raise NonFiniteError(
            f"the curvature needs the exponential of {np.abs(logarithms).max():.6g}, {what}, which "
            "float64 does not have; check the parameters and the scale of the inputs"
        )
    return weights


def check_finite_targets(targets: np.ndarray, batch_index: int) -> None:
    """Raise if targets are not real numbers, or one of them is NaN or infinite."""
    if not is_real(targets.dtype):
        raise InvalidArgumentError(
            f"targets of batch {batch_index} have dtype {targets.dtype}; give real numbers"
        )
    if not jnp.issubdtype(targets.dtype, np.floating):
        return
    bad = ~np.isfinite(targets.astype(np.float64, copy=False))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise NonFiniteError(
            f"targets of batch {batch_index} hold {targets[first]} at index {first}; remove or "
            "impute such points before fitting"
        )


def check_labels(targets: np.ndarray, num_labels: int, batch_index: int, remedy: str) -> None:
    """Raise unless targets are whole numbers in ``0 .. num_labels - 1``."""
    check_finite_targets(targets, batch_index)
    values: Any = targets
    if jnp.issubdtype(targets.dtype, np.floating):
        values = targets.astype(np.float64, copy=False)
        fractional = values[values != np.floor(values)]
        if fractional.size:
            raise InvalidArgumentError(
                f"targets of batch {batch_index} hold {fractional[0]}; labels must be whole "
                f"numbers in 0..{num_labels - 1}"
            )
    if targets.dtype == np.bool_ or targets.size == 0:
        return
    low, high = values.min(), values.max()
    if low < 0 or high > num_labels - 1:
        raise InvalidArgumentError(
            f"targets of batch {batch_index} hold the label {int(low if low < 0 else high)}; "
            f"labels must be in 0..{num_labels - 1}: {remedy}"
        )
