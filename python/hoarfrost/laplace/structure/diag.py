"""The diagonal of the precision alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hoarfrost import _core
from hoarfrost.curvature import HeadLayout
from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.base import Factor, Progress, Scale, common_scale
from hoarfrost.laplace.structure.cost import TUNING, VECTORS, Cost, Setting
from hoarfrost.laplace.structure.roots import Roots, of_scaled_rows, of_variances
from hoarfrost.likelihood import Likelihood
from hoarfrost.types import Array

# Squares of layer inputs or of Jacobians that are held at once, at 64-bit.
_NUMBERS_AT_ONCE = 2**24


@dataclass(frozen=True, eq=False)
class DiagonalFactor(Factor):
    """A diagonal precision; over a last layer its ``J`` need not be formed.

    `num_outputs` is the last layer's ``C``, None for any other parameters.
    """

    num_outputs: int | None = None

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""
        return np.diag(self.variance())

    def precision(self) -> Array:
        """``A``, shape ``(P, P)``."""
        return np.diag(1 / self.variance())

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """``sum_i J_ci^2 Sigma_ii``, shape ``(B, C)``; for a last layer from its inputs."""
        variance = self._core_variance()
        if self.num_outputs is not None:
            variance = variance.reshape(self.num_outputs, -1).T
        rows = max(1, _NUMBERS_AT_ONCE // block[0].size)
        if len(block) <= rows:
            return self._weighted(block, variance)
        parts = range(0, len(block), rows)
        return np.concatenate([self._weighted(block[i : i + rows], variance) for i in parts])

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``; diagonal for a last layer."""
        if self.num_outputs is None:
            return super().functional_covariance(block)
        return between_points.diagonal_matrices(self.functional_variance(block))

    def roots(self, covariance: bool) -> Roots:
        """Standard deviations of the parameters, or of a layer's their variances by output."""
        if self.num_outputs is None:
            return Roots({"std": np.sqrt(self.variance())}, of_scaled_rows)
        variance = self._core_variance()
        return Roots({"variances": variance.reshape(self.num_outputs, -1)}, of_variances)

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points together, shape ``(B, C, B, C)``."""
        variance = self._core_variance()
        if self.num_outputs is None:
            return between_points.from_diagonal(variance, block)
        return between_points.from_diagonal_layer(variance.reshape(self.num_outputs, -1), block)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance of so many points, with what it is made from."""
        size = len(self.order)
        if self.num_outputs is None:
            return between_points.diagonal_bytes(points * num_outputs, size)
        return between_points.diagonal_layer_bytes(points, num_outputs, size)

    def _core_variance(self) -> Array:
        return self._shrunk(self.posterior.variance())

    def _weighted(self, block: Array, variance: Array) -> Array:
        result: Array = np.square(block, dtype=np.float64) @ variance
        return result


@dataclass(frozen=True, eq=False)
class DiagonalCurvature:
    """The diagonal of ``H``, from layer inputs where there is a layout, else from rows."""

    layout: HeadLayout | None
    likelihood: Likelihood
    sums: Any
    order: Array

    structure: ClassVar[str] = "diag"
    resumable: ClassVar[bool] = False

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For any parameters."""
        return True

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """A vector each, and those of Python, which are as large here as all the rest."""
        size = 8 * setting.num_params
        return Cost(size, size, vectors=VECTORS * size, making=3 * size, tuning=TUNING * size)

    @classmethod
    def empty(cls, setting: Setting) -> DiagonalCurvature:
        """No points yet."""
        return cls.of_core(setting, _core.DiagonalCurvature(setting.num_params))

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> DiagonalCurvature:
        """With a sum of the core's."""
        return cls(setting.layout, setting.require_likelihood(), core, setting.order())

    @property
    def core(self) -> Any:
        """The core's sum."""
        return self.sums

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their layer inputs ``(B, D')`` or rows ``(B, R, P)``."""
        if self.layout is None:
            self.sums.add_rows(block.reshape(-1, block.shape[-1]))
        else:
            weights = self.likelihood.head_weights(outputs.astype(np.float64))
            self.sums.add_head(block, weights)

    def merge(self, other: DiagonalCurvature, weight: Scale = 1.0) -> None:
        """Add a multiple of another diagonal over the same parameters."""
        self.sums.merge(other.sums, common_scale(weight))

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Add ``T``: at once, and the sums stay as they are."""
        scale = common_scale(scale)
        prior = prior_precision[self.order]
        prior /= scale
        posterior = self.sums.factor(prior)
        num_outputs = None if self.layout is None else self.layout.num_outputs
        return DiagonalFactor(posterior, self.order, scale, num_outputs)

    def flops(self, prior_precision: Array) -> float:
        """None worth counting."""
        return 0.0
