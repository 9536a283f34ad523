"""The core's curvatures and factors, in the order of the trainable tree.

The core counts a head's parameters class-major; everybody outside counts them as `ravel_pytree`
does. The permutation between the two lives here and nowhere else: ``order[k]`` is the ravelled
index of the core's index ``k``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hoarfrost import _core
from hoarfrost.curvature import HeadLayout
from hoarfrost.likelihood import Likelihood


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
    order: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the factor."""
        return int(self.posterior.nbytes)

    def log_det(self) -> float:
        """``log |A|``."""
        return float(self.posterior.log_det())

    def variance(self) -> np.ndarray:
        """Diagonal of ``A^-1``, shape ``(P,)``."""
        return self._ravelled(self.posterior.variance())

    def covariance(self) -> np.ndarray:
        """``A^-1``, shape ``(P, P)``."""
        return self.posterior.covariance(self.order)

    def precision(self) -> np.ndarray:
        """``A``, shape ``(P, P)``."""
        return self.posterior.precision(self.order)

    def deviations(self, seed: int, n_samples: int) -> np.ndarray:
        """Draws of ``N(0, A^-1)``, shape ``(n_samples, P)``."""
        return self._ravelled(self.posterior.sample(seed, n_samples))

    def functional_covariance(self, block: np.ndarray) -> np.ndarray:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from layer inputs or Jacobians."""
        return self.posterior.functional_covariance(block)

    def functional_variance(self, block: np.ndarray) -> np.ndarray:
        """Its diagonal, shape ``(B, C)``."""
        return self.posterior.functional_variance(block)

    def _ravelled(self, core_order: np.ndarray) -> np.ndarray:
        ravelled = np.empty_like(core_order)
        ravelled[..., self.order] = core_order
        return ravelled


@dataclass(frozen=True, eq=False)
class DiagonalHeadFactor(Factor):
    """A diagonal factor over a last layer, where ``J`` need not be formed: ``V_cc = sum a^2 s``."""

    num_outputs: int

    def functional_variance(self, block: np.ndarray) -> np.ndarray:
        """``sum_i a_ni^2 Sigma_ci``, shape ``(B, C)``, from layer inputs ``(B, D')``."""
        variance = self.posterior.variance().reshape(self.num_outputs, -1)
        return np.square(block, dtype=np.float64) @ variance.T

    def functional_covariance(self, block: np.ndarray) -> np.ndarray:
        """The same as diagonal matrices, shape ``(B, C, C)``."""
        return np.eye(self.num_outputs) * self.functional_variance(block)[:, :, None]


class Curvature(Protocol):
    """A sum ``H`` over the data, which is factored with a prior precision."""

    def add(self, outputs: np.ndarray, block: np.ndarray) -> None:
        """Add some points: their outputs ``(B, C)``, and their layer inputs or rows."""

    def factor(self, prior_precision: np.ndarray, *, keep: bool = True) -> Factor:
        """Factor ``H + T``; without `keep` the curvature may be used up by it."""


@dataclass(frozen=True, eq=False)
class HeadCurvature:
    """A last layer with its full covariance."""

    layout: HeadLayout
    likelihood: Likelihood
    head: Any
    order: np.ndarray

    @classmethod
    def empty(cls, layout: HeadLayout, likelihood: Likelihood) -> HeadCurvature:
        """No points yet."""
        kind = _core.SoftmaxHead if likelihood.head == "softmax" else _core.IndependentHead
        head = kind(layout.num_outputs, layout.num_features)
        return cls(layout, likelihood, head, layout.order())

    def add(self, outputs: np.ndarray, block: np.ndarray) -> None:
        """Add points by their outputs ``(B, C)`` and layer inputs ``(B, D')``."""
        if self.likelihood.head == "softmax":
            self.head.add(block, outputs)
        else:
            self.head.add(block, self.likelihood.head_weights(outputs.astype(np.float64)))

    def factor(self, prior_precision: np.ndarray, *, keep: bool = True) -> Factor:
        """Factor ``H + T``; a head's blocks stay as they are."""
        return Factor(self.head.factor(prior_precision[self.order]), self.order)


@dataclass(frozen=True, eq=False)
class DenseCurvature:
    """Any parameters, from Jacobian rows, with their full covariance."""

    matrix: Any
    order: np.ndarray

    @classmethod
    def empty(cls, num_params: int) -> DenseCurvature:
        """No points yet."""
        return cls(_core.DenseCurvature(num_params), np.arange(num_params, dtype=np.int64))

    def add(self, outputs: np.ndarray, block: np.ndarray) -> None:
        """Add points by their rows ``(B, R, P)``, which hold all that the outputs have to say."""
        self.matrix.add_rows(block.reshape(-1, block.shape[-1]))

    def factor(self, prior_precision: np.ndarray, *, keep: bool = True) -> Factor:
        """Factor ``H + T``, in place without `keep`."""
        return Factor(self.matrix.factor(prior_precision, keep=keep), self.order)


@dataclass(frozen=True, eq=False)
class DiagonalCurvature:
    """The diagonal of ``H``, from layer inputs where there is a layout, else from rows."""

    layout: HeadLayout | None
    likelihood: Likelihood
    sums: Any
    order: np.ndarray

    @classmethod
    def empty(
        cls, num_params: int, layout: HeadLayout | None, likelihood: Likelihood
    ) -> DiagonalCurvature:
        """No points yet."""
        order = np.arange(num_params, dtype=np.int64) if layout is None else layout.order()
        return cls(layout, likelihood, _core.DiagonalCurvature(num_params), order)

    def add(self, outputs: np.ndarray, block: np.ndarray) -> None:
        """Add points by their layer inputs ``(B, D')`` or rows ``(B, R, P)``."""
        if self.layout is None:
            self.sums.add_rows(block.reshape(-1, block.shape[-1]))
        else:
            weights = self.likelihood.head_weights(outputs.astype(np.float64))
            self.sums.add_head(block, weights)

    def factor(self, prior_precision: np.ndarray, *, keep: bool = True) -> Factor:
        """Factor ``H + T``; the sums stay as they are."""
        posterior = self.sums.factor(prior_precision[self.order])
        if self.layout is None:
            return Factor(posterior, self.order)
        return DiagonalHeadFactor(posterior, self.order, self.layout.num_outputs)
