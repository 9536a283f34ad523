"""Any parameters, from Jacobian rows, with their full covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hoarfrost import _core
from hoarfrost.errors import NotPositiveDefiniteError
from hoarfrost.laplace.structure.base import Cost, Factor, Progress, Scale, Setting, common_scale
from hoarfrost.memory import check_room
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class DenseFactor(Factor):
    """Any parameters, one packed factor."""

    def curvature(self, prior_precision: Array, memory_budget: int | None) -> DenseCurvature:
        """``L L^T - T``: as large as the factor, and with the rounding of ``A``.

        Raises
        ------
        MemoryLimitError
            If it does not fit beside the factor.
        """
        size = len(self.order)
        check_room(
            "the curvature, which comes back from the factor beside it,",
            _core.dense_bytes(size),
            "fit again with the prior_precision and noise that are wanted",
            None if memory_budget is None else memory_budget - self.nbytes,
        )
        prior = prior_precision / self.scale
        rounding = size * float(np.finfo(np.float64).eps * prior.max())
        return DenseCurvature(self.posterior.curvature(prior), self.order, rounding)


@dataclass(frozen=True, eq=False)
class DenseCurvature:
    """Any parameters, from Jacobian rows, with their full covariance.

    `rounding` is what the prior of the factor that it came back from has left in it, if it did.
    """

    matrix: Any
    order: Array
    rounding: float = 0.0

    structure: ClassVar[str] = "full"

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For any parameters without a structure to use."""
        return setting.head is None

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """A packed triangle each."""
        size = _core.dense_bytes(setting.num_params)
        return Cost(size, size, in_place=True)

    @classmethod
    def empty(cls, setting: Setting) -> DenseCurvature:
        """No points yet."""
        return cls(_core.DenseCurvature(setting.num_params), setting.order())

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their rows ``(B, R, P)``, which hold all that the outputs have to say."""
        self.matrix.add_rows(block.reshape(-1, block.shape[-1]))

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``, in place without `keep`."""
        scale = common_scale(scale)
        prior = prior_precision / scale
        if prior.min() < self.rounding:
            raise NotPositiveDefiniteError(
                f"a prior precision of {prior_precision.min():.3g} cannot be told from zero beside "
                "the rounding of the curvature, which came back from a factor under a much larger "
                f"one: give at least {self.rounding * scale:.3g}, or fit again",
                int(prior.argmin()),
                self.rounding,
            )
        posterior = self.matrix.factor(prior, keep=keep, progress=progress)
        return DenseFactor(posterior, self.order, scale)

    def flops(self, prior_precision: Array) -> float:
        """Of one Cholesky factorisation."""
        return _core.factor_flops(len(prior_precision))
