"""The core's curvatures and factors, in the order of the trainable tree.

The core counts a head's parameters class-major; everybody outside counts them as `ravel_pytree`
does. The permutation between the two lives here and nowhere else: ``order[k]`` is the ravelled
index of the core's index ``k``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hoarfrost import _core
from hoarfrost.curvature import HeadLayout
from hoarfrost.likelihood import Likelihood

Array = np.ndarray

# Called with the floating-point operations done so far.
Progress = Callable[[float], object] | None


@dataclass(frozen=True, eq=False)
class Factor:
    """A factorised precision ``A = H + T``.

    Attributes
    ----------
    posterior : object
        The core's factor.
    order : ndarray
        Ravelled index of each core index, shape ``(P,)``, int64.
    """

    posterior: Any
    order: Array

    @property
    def nbytes(self) -> int:
        """Bytes of the factor."""
        return int(self.posterior.nbytes)

    def log_det(self) -> float:
        """``log |A|``."""
        return float(self.posterior.log_det())

    def variance(self) -> Array:
        """Diagonal of ``A^-1``, shape ``(P,)``."""
        return self._ravelled(self.posterior.variance())

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""
        covariance: Array = self.posterior.covariance(self.order)
        return covariance

    def precision(self) -> Array:
        """``A``, shape ``(P, P)``."""
        precision: Array = self.posterior.precision(self.order)
        return precision

    def deviations(self, seed: int, n_samples: int) -> Array:
        """Draws of ``N(0, A^-1)``, shape ``(n_samples, P)``."""
        return self._ravelled(self.posterior.sample(seed, n_samples))

    def functional_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from layer inputs or Jacobians."""
        covariance: Array = self.posterior.functional_covariance(block)
        return covariance

    def functional_variance(self, block: Array) -> Array:
        """Its diagonal, shape ``(B, C)``."""
        variance: Array = self.posterior.functional_variance(block)
        return variance

    def _ravelled(self, core_order: Array) -> Array:
        ravelled = np.empty_like(core_order)
        ravelled[..., self.order] = core_order
        return ravelled


@dataclass(frozen=True, eq=False)
class DiagonalFactor(Factor):
    """A diagonal precision; over a last layer its ``J`` need not be formed.

    `num_outputs` is the last layer's ``C``, None for any other parameters.
    """

    num_outputs: int | None

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""
        return np.diag(self.variance())

    def precision(self) -> Array:
        """``A``, shape ``(P, P)``."""
        return np.diag(1 / self.variance())

    def functional_variance(self, block: Array) -> Array:
        """``sum_i J_ci^2 Sigma_ii``, shape ``(B, C)``; for a last layer from its inputs."""
        variance: Array = self.posterior.variance()
        if self.num_outputs is not None:
            variance = variance.reshape(self.num_outputs, -1).T
        result: Array = np.square(block, dtype=np.float64) @ variance
        return result

    def functional_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``; diagonal for a last layer."""
        if self.num_outputs is None:
            return super().functional_covariance(block)
        result: Array = np.eye(self.num_outputs) * self.functional_variance(block)[:, :, None]
        return result


class Curvature(Protocol):
    """A sum ``H`` over the data, which is factored with a prior precision."""

    def add(self, outputs: Array, block: Array) -> None:
        """Add some points: their outputs ``(B, C)``, and their layer inputs or rows."""

    def factor(
        self, prior_precision: Array, *, keep: bool = True, progress: Progress = None
    ) -> Factor:
        """Factor ``H + T``; without `keep` the curvature may be used up by it."""


@dataclass(frozen=True, eq=False)
class HeadCurvature:
    """A last layer with its full covariance."""

    likelihood: Likelihood
    head: Any
    order: Array

    @classmethod
    def empty(cls, layout: HeadLayout, likelihood: Likelihood) -> HeadCurvature:
        """No points yet."""
        head = _core.HeadCurvature(likelihood.head, layout.num_outputs, layout.num_features)
        return cls(likelihood, head, layout.order())

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their outputs ``(B, C)`` and layer inputs ``(B, D')``."""
        if self.likelihood.head == "softmax":
            self.head.add(block, outputs)
        else:
            self.head.add(block, self.likelihood.head_weights(outputs.astype(np.float64)))

    def factor(
        self, prior_precision: Array, *, keep: bool = True, progress: Progress = None
    ) -> Factor:
        """Factor ``H + T``; a head's blocks stay as they are."""
        posterior = self.head.factor(prior_precision[self.order], progress=progress)
        return Factor(posterior, self.order)


@dataclass(frozen=True, eq=False)
class DenseCurvature:
    """Any parameters, from Jacobian rows, with their full covariance."""

    matrix: Any
    order: Array

    @classmethod
    def empty(cls, num_params: int) -> DenseCurvature:
        """No points yet."""
        return cls(_core.DenseCurvature(num_params), np.arange(num_params, dtype=np.int64))

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their rows ``(B, R, P)``, which hold all that the outputs have to say."""
        self.matrix.add_rows(block.reshape(-1, block.shape[-1]))

    def factor(
        self, prior_precision: Array, *, keep: bool = True, progress: Progress = None
    ) -> Factor:
        """Factor ``H + T``, in place without `keep`."""
        posterior = self.matrix.factor(prior_precision, keep=keep, progress=progress)
        return Factor(posterior, self.order)


@dataclass(frozen=True, eq=False)
class DiagonalCurvature:
    """The diagonal of ``H``, from layer inputs where there is a layout, else from rows."""

    layout: HeadLayout | None
    likelihood: Likelihood
    sums: Any
    order: Array

    @classmethod
    def empty(
        cls, num_params: int, layout: HeadLayout | None, likelihood: Likelihood
    ) -> DiagonalCurvature:
        """No points yet."""
        order = np.arange(num_params, dtype=np.int64) if layout is None else layout.order()
        return cls(layout, likelihood, _core.DiagonalCurvature(num_params), order)

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their layer inputs ``(B, D')`` or rows ``(B, R, P)``."""
        if self.layout is None:
            self.sums.add_rows(block.reshape(-1, block.shape[-1]))
        else:
            weights = self.likelihood.head_weights(outputs.astype(np.float64))
            self.sums.add_head(block, weights)

    def factor(
        self, prior_precision: Array, *, keep: bool = True, progress: Progress = None
    ) -> Factor:
        """Add ``T``: at once, and the sums stay as they are."""
        posterior = self.sums.factor(prior_precision[self.order])
        num_outputs = None if self.layout is None else self.layout.num_outputs
        return DiagonalFactor(posterior, self.order, num_outputs)
