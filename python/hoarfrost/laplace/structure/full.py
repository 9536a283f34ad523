"""Any parameters, from Jacobian rows, with their full covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hoarfrost import _core
from hoarfrost.laplace.structure.base import Factor, Progress, Scale, common_scale, errors_at
from hoarfrost.laplace.structure.cost import Cost, Setting
from hoarfrost.memory import check_room
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class FullFactor(Factor):
    """Any parameters, one packed factor."""

    def curvature(self, prior_precision: Array, memory_budget: int | None) -> FullCurvature:
        """``L L^T - T``: as large as the factor, and with the rounding of ``A``.

        Raises
        ------
        MemoryLimitError
            If it does not fit beside the factor.
        """
        size = len(self.order)
        check_room(
            "the curvature, which comes back from the factor beside it,",
            _core.full_bytes(size)[0],
            "fit again with the prior_precision and noise that are wanted",
            None if memory_budget is None else memory_budget - self.nbytes,
        )
        return FullCurvature(self.posterior.curvature(prior_precision / self.scale), self.order)


@dataclass(frozen=True, eq=False)
class FullCurvature:
    """Any parameters, from Jacobian rows, with their full covariance."""

    matrix: Any
    order: Array

    structure: ClassVar[str] = "full"
    resumable: ClassVar[bool] = True

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For any parameters without a structure to use."""
        return setting.head is None

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """A packed triangle each, and a panel of rows while they are added."""
        return Cost(*_core.full_bytes(setting.num_params), in_place=True)

    @classmethod
    def empty(cls, setting: Setting) -> FullCurvature:
        """No points yet."""
        return cls.of_core(setting, _core.FullCurvature(setting.num_params))

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> FullCurvature:
        """With a sum of the core's."""
        return cls(core, setting.order())

    @property
    def core(self) -> Any:
        """The core's sum."""
        return self.matrix

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their rows ``(B, R, P)``, which hold all that the outputs have to say."""
        self.matrix.add_rows(block.reshape(-1, block.shape[-1]))

    def merge(self, other: FullCurvature, weight: Scale = 1.0) -> None:
        """Add a multiple of another curvature over the same parameters."""
        self.matrix.merge(other.matrix, common_scale(weight))

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
        with errors_at(scale):
            posterior = self.matrix.factor(prior_precision / scale, keep=keep, progress=progress)
        return FullFactor(posterior, self.order, scale)

    def spectrum(self, prior_precision: Array, steps: int) -> tuple[int, Array, Array] | None:
        """What the spectrum is like in the metric of a prior (`Spectral`)."""
        found: tuple[int, Array, Array] = self.matrix.spectrum(prior_precision, steps)
        return found

    def flops(self, prior_precision: Array) -> float:
        """Of one Cholesky factorisation."""
        return _core.factor_flops(len(prior_precision))
