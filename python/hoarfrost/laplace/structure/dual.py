"""Fewer rows of curvature than parameters: exact, in the space of the rows.

With ``H = R^T R``, where ``R`` has a row for each output of each point (one less of a softmax), all
that is asked of ``H + T`` follows from ``I + R T^-1 R^T`` (Woodbury), which is as large as the data
are many. The rows are what is kept: they serve every prior, and predictions need them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost import _core
from hoarfrost.dtypes import in_float64
from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.base import ROOTS, Factor, Progress, Scale, common_scale, errors_at
from hoarfrost.laplace.structure.cost import Cost, Setting
from hoarfrost.laplace.structure.roots import Roots, of_lowered_layer, of_lowered_rows
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import check_room
from hoarfrost.types import Array

# Numbers of rows that are made from layer inputs at once.
_NUMBERS_AT_ONCE = 2**23


@dataclass(frozen=True, eq=False)
class DualFactor(Factor):
    """``I + R T^-1 R^T``; `num_outputs` is a last layer's ``C``, None for any other parameters."""

    num_outputs: int | None = None

    holds_curvature: ClassVar[bool] = True

    def prior_traces(self, prior_precision: Array, groups: Array, num_groups: int) -> Array:
        """``sum_{i in g} T_i Sigma_ii``: in the space of the rows, where a group shares a prior."""
        found: Array | None = self.posterior.prior_traces(groups[self.order], num_groups)
        if found is None:
            return super().prior_traces(prior_precision, groups, num_groups)
        return found

    def dense_bytes(self) -> int:
        """Bytes of a covariance or a precision, and of the rows turned beside it."""
        size = len(self.order)
        return 8 * size**2 + 8 * size * (int(self.posterior.num_rows) + 256)

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from layer inputs or Jacobians."""
        ask = self.posterior.functional_covariance
        return self._shrunk(np.concatenate([ask(rows) for rows in self._jacobians(block)]))

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """Its diagonal, shape ``(B, C)``."""
        ask = self.posterior.functional_variance
        return self._shrunk(np.concatenate([ask(rows) for rows in self._jacobians(block)]))

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points together, shape ``(B, C, B, C)``."""
        rows = np.concatenate(list(self._jacobians(block)))
        count, num_outputs, size = rows.shape
        together = self.posterior.functional_covariance(rows.reshape(1, -1, size))
        return self._shrunk(together.reshape(count, num_outputs, count, num_outputs))

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance of so many points, with what it is made from."""
        edge = points * num_outputs
        own = 8 * edge * (len(self.order) + int(self.posterior.num_rows))
        return between_points.rows_bytes(edge, len(self.order)) + own

    def roots(self, covariance: bool) -> Roots:
        """Standard deviations of the prior, and what the rows take away from them."""
        size, count = len(self.order), int(self.posterior.num_rows)
        check_room("the covariance's root", 8 * count * (2 * size + 2 * count), ROOTS)
        std = np.sqrt(self._shrunk(self.posterior.prior_variance()))
        arrays = {"std": std, "lowered": self.posterior.root()}
        if self.num_outputs is None:
            return Roots(arrays, of_lowered_rows)
        arrays["std"] = std.reshape(self.num_outputs, -1)
        return Roots(arrays, of_lowered_layer)

    def curvature(self, prior_precision: Array, memory_budget: int | None) -> DualCurvature:
        """``H`` by the same rows, which takes no memory."""
        return DualCurvature(self.num_outputs, None, self.posterior.curvature(), self.order)

    def _jacobians(self, block: Array) -> Iterator[Array]:
        """Jacobians ``(B, C, P)`` in the core's order, some points at a time."""
        if self.num_outputs is None:
            yield block
            return
        eye = np.eye(self.num_outputs)
        step = _points_at_once(self.num_outputs, len(self.order))
        for start in range(0, len(block), step):
            some = block[start : start + step].astype(np.float64)
            rows = eye[None, :, :, None] * some[:, None, None, :]
            yield rows.reshape(len(some), self.num_outputs, -1)


@dataclass(frozen=True, eq=False)
class DualCurvature:
    """The rows, of a layer with `num_outputs` outputs from its inputs.

    One that comes back from a factor has no likelihood: points are added to another one.
    """

    num_outputs: int | None
    likelihood: Likelihood | None
    rows: Any
    order: Array

    structure: ClassVar[str] = "dual"
    resumable: ClassVar[bool] = False

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For any parameters."""
        return True

    @staticmethod
    def cost(setting: Setting) -> Cost | None:
        """The rows, which the factor shares, and two triangles as large as they are many."""
        if setting.num_rows is None:
            return None
        rows, factor, between = _core.dual_bytes(setting.num_params, setting.num_rows)
        return Cost(rows, rows + factor + between, in_place=True, widens=3, shared=rows)

    @classmethod
    def empty(cls, setting: Setting) -> DualCurvature:
        """No points yet."""
        return cls.of_core(setting, _core.RowCurvature(setting.num_params))

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> DualCurvature:
        """With a sum of the core's."""
        num_outputs = None if setting.layout is None else setting.num_outputs
        return cls(num_outputs, setting.require_likelihood(), core, setting.order())

    @property
    def core(self) -> Any:
        """The core's sum."""
        return self.rows

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their layer inputs ``(B, D')`` or rows ``(B, R, P)``."""
        check_room(
            "the rows of more points",
            8 * len(block) * outputs.shape[1] * len(self.order),
            'use hessian_structure="diag", or give fewer points',
        )
        if self.num_outputs is None:
            self.rows.add_rows(block.reshape(-1, block.shape[-1]))
            return
        assert self.likelihood is not None
        root = _root(self.likelihood, outputs)
        step = _points_at_once(root.shape[2], len(self.order))
        for start in range(0, len(block), step):
            part = slice(start, start + step)
            rows = np.einsum("bcr,bi->brci", root[part], block[part].astype(np.float64))
            self.rows.add_rows(rows.reshape(-1, len(self.order)))

    def merge(self, other: DualCurvature, weight: Scale = 1.0) -> None:
        """Add a multiple of another curvature over the same parameters."""
        self.rows.merge(other.rows, common_scale(weight))

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; the rows are shared with the factor in any case."""
        scale = common_scale(scale)
        prior = prior_precision[self.order] / scale
        with errors_at(scale):
            posterior = self.rows.factor(prior, progress=progress)
        return DualFactor(posterior, self.order, scale, self.num_outputs)

    def flops(self, prior_precision: Array) -> float:
        """Of the Gram matrix of the rows, and its Cholesky factorisation."""
        return float(self.rows.flops())


def _points_at_once(rows_each: int, num_params: int) -> int:
    return max(1, _NUMBERS_AT_ONCE // (rows_each * num_params))


def _root(likelihood: Likelihood, outputs: Array) -> Array:
    """Of the likelihood's curvature in float64, shape ``(B, C, R)``."""
    outputs = outputs.astype(np.float64)
    if likelihood.head == "softmax":
        with in_float64():
            return np.asarray(_root_program(likelihood, jnp.asarray(outputs)))
    weights = np.sqrt(likelihood.head_weights(outputs))
    root: Array = weights[:, :, None] * np.eye(outputs.shape[1])
    return root


@jax.jit
def _root_program(likelihood: Likelihood, outputs: jax.Array) -> jax.Array:
    return likelihood.curvature_root(outputs)
