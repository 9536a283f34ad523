"""A last layer with its full covariance, from the layer's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hoarfrost import _core
from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.base import ROOTS, Factor, Progress, Scale, common_scale, errors_at
from hoarfrost.laplace.structure.cost import Cost, Setting
from hoarfrost.laplace.structure.roots import Roots, of_layer, root_of, separate_roots
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import check_room
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class HeadFactor(Factor):
    """A last layer; `num_outputs` is its ``C``, `covaries` whether its outputs do."""

    num_outputs: int = 1
    covaries: bool = True

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from layer inputs: by solves for few points in all.

        Many go by blocks of the covariance, which are kept for later questions about many.
        """
        if not self.covaries:
            return between_points.diagonal_matrices(self.functional_variance(block, question))
        return self._shrunk(self.posterior.functional_covariance(block, question))

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """Its diagonal, shape ``(B, C)``."""
        return self._shrunk(self.posterior.functional_variance(block, question))

    def drop_cache(self) -> None:
        """Give back the blocks of the covariance; they are made again when needed."""
        self.posterior.drop_cache()

    def prior_traces(self, prior_precision: Array, groups: Array, num_groups: int) -> Array:
        """``sum_{i in g} T_i Sigma_ii``: where outputs share prior and groups, in ``n^3 / 3``."""
        by_output = groups[self.order].reshape(self.num_outputs, -1)
        prior = prior_precision[self.order].reshape(self.num_outputs, -1)
        if not ((by_output == by_output[0]).all() and (prior == prior[0]).all()):
            return super().prior_traces(prior_precision, groups, num_groups)
        weights = prior[0] * self._shrunk(self.posterior.variance_by_feature())
        return np.bincount(by_output[0], weights=weights, minlength=num_groups)

    def roots(self, covariance: bool) -> Roots:
        """One root of all outputs where their covariances are wanted, else one for each."""
        edge = len(self.order) // self.num_outputs
        if covariance and self.covaries:
            check_room("the covariance of a layer and its root", 24 * len(self.order) ** 2, ROOTS)
            order = np.arange(len(self.order), dtype=np.int64)
            root = root_of(self._shrunk(self.posterior.covariance(order)))
            return Roots({"root": root.reshape(-1, self.num_outputs, edge)}, of_layer)
        check_room("a root for each output", 8 * (self.num_outputs + 2) * edge**2, ROOTS)
        roots = np.empty((self.num_outputs, edge, edge))
        for output, root in enumerate(roots):
            root[:] = root_of(self._shrunk(self.posterior.output_covariance(output)))
        return separate_roots(roots)

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points together, shape ``(B, C, B, C)``, from layer inputs."""
        if self.covaries:
            return between_points.from_covariance(self, block, self.num_outputs)
        return between_points.from_variances(self, block)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance of so many points, with what it is made from."""
        sizes = (points, num_outputs, len(self.order))
        if self.covaries:
            return between_points.covariance_bytes(*sizes) + self.dense_bytes()
        return between_points.variances_bytes(*sizes)


@dataclass(frozen=True, eq=False)
class HeadCurvature:
    """A last layer with its full covariance."""

    likelihood: Likelihood
    head: Any
    order: Array
    num_outputs: int

    structure: ClassVar[str] = "full"
    resumable: ClassVar[bool] = True

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For a last layer, of classes or of outputs that do not covary."""
        return setting.head in ("softmax", "independent")

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """Blocks; one prior for all outputs leaves a softmax head a class less to factor."""
        assert setting.head is not None
        sizes = (setting.num_outputs, setting.num_features, setting.same_prior)
        return Cost(*_core.head_bytes(setting.head, *sizes), in_place=True, widens=2)

    @classmethod
    def empty(cls, setting: Setting) -> HeadCurvature:
        """No points yet."""
        kind = setting.require_likelihood().head
        core = _core.HeadCurvature(kind, setting.num_outputs, setting.num_features)
        return cls.of_core(setting, core)

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> HeadCurvature:
        """With a sum of the core's."""
        return cls(setting.require_likelihood(), core, setting.order(), setting.num_outputs)

    @property
    def core(self) -> Any:
        """The core's sum."""
        return self.head

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their outputs ``(B, C)`` and layer inputs ``(B, D')``."""
        if self.likelihood.head == "softmax":
            self.head.add(block, outputs)
        else:
            self.head.add(block, self.likelihood.head_weights(outputs.astype(np.float64)))

    def merge(self, other: HeadCurvature, weight: Scale = 1.0) -> None:
        """Add the points of another curvature of the same layer, with a weight."""
        self.head.merge(other.head, common_scale(weight))

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; without `keep` the blocks go as the factor takes them up."""
        scale = common_scale(scale)
        prior = prior_precision[self.order] / scale
        with errors_at(scale):
            posterior = self.head.factor(prior, keep=keep, progress=progress)
        covaries = self.likelihood.head == "softmax"
        return HeadFactor(posterior, self.order, scale, self.num_outputs, covaries)

    def spectrum(self, prior_precision: Array, steps: int) -> tuple[int, Array, Array] | None:
        """What the spectrum is like in the metric of a prior that outputs share (`Spectral`)."""
        priors = prior_precision[self.order].reshape(self.num_outputs, -1)
        if not (priors == priors[0]).all():
            return None
        found: tuple[int, Array, Array] = self.head.spectrum(priors[0], steps)
        return found

    def flops(self, prior_precision: Array) -> float:
        """Of one factor over all outputs (or their contrasts), or of one an output."""
        priors = prior_precision[self.order].reshape(self.num_outputs, -1)
        num_features = priors.shape[1]
        if self.likelihood.head != "softmax":
            return self.num_outputs * _core.factor_flops(num_features)
        contrasts = self.num_outputs - bool((priors == priors[0]).all())
        return _core.factor_flops(contrasts * num_features)
