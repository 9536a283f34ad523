"""The diagonal of the precision alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hoarfrost import _core
from hoarfrost.curvature import HeadLayout
from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.base import Cost, Factor, Progress, Scale, Setting, common_scale
from hoarfrost.laplace.structure.roots import Roots, of_scaled_rows, of_variances
from hoarfrost.likelihood import Likelihood
from hoarfrost.types import Array


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
        variance = self._shrunk(self.posterior.variance())
        if self.num_outputs is not None:
            variance = variance.reshape(self.num_outputs, -1).T
        result: Array = np.square(block, dtype=np.float64) @ variance
        return result

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``; diagonal for a last layer."""
        if self.num_outputs is None:
            return super().functional_covariance(block)
        return between_points.diagonal_matrices(self.functional_variance(block))

    def roots(self, covariance: bool) -> Roots:
        """Standard deviations of the parameters, or of a layer's their variances by output."""
        if self.num_outputs is None:
            return Roots({"std": np.sqrt(self.variance())}, of_scaled_rows)
        variance = self._shrunk(self.posterior.variance())
        return Roots({"variances": variance.reshape(self.num_outputs, -1)}, of_variances)

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points together, shape ``(B, C, B, C)``."""
        if self.num_outputs is None:
            return super().joint_covariance(block)
        return between_points.from_variances(self, block)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance of so many points, with what it is made from."""
        if self.num_outputs is None:
            return super().joint_bytes(points, num_outputs)
        return between_points.variances_bytes(points * num_outputs)


@dataclass(frozen=True, eq=False)
class DiagonalCurvature:
    """The diagonal of ``H``, from layer inputs where there is a layout, else from rows."""

    layout: HeadLayout | None
    likelihood: Likelihood
    sums: Any
    order: Array

    structure: ClassVar[str] = "diag"

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For any parameters."""
        return True

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """A vector, and two."""
        return Cost(8 * setting.num_params, 16 * setting.num_params)

    @classmethod
    def empty(cls, setting: Setting) -> DiagonalCurvature:
        """No points yet."""
        sums = _core.DiagonalCurvature(setting.num_params)
        return cls(setting.layout, setting.require_likelihood(), sums, setting.order())

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their layer inputs ``(B, D')`` or rows ``(B, R, P)``."""
        if self.layout is None:
            self.sums.add_rows(block.reshape(-1, block.shape[-1]))
        else:
            weights = self.likelihood.head_weights(outputs.astype(np.float64))
            self.sums.add_head(block, weights)

    def merge(self, other: DiagonalCurvature) -> None:
        """Add the points of another diagonal over the same parameters."""
        self.sums.merge(other.sums)

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
        posterior = self.sums.factor(prior_precision[self.order] / scale)
        num_outputs = None if self.layout is None else self.layout.num_outputs
        return DiagonalFactor(posterior, self.order, scale, num_outputs)

    def flops(self, prior_precision: Array) -> float:
        """None worth counting."""
        return 0.0
