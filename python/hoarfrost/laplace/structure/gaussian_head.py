"""A last layer under Gaussian noise: one Gram matrix of its inputs is the whole curvature.

``H = diag(w) (x) G`` with ``G = sum_n a_n a_n^T`` and the noise precisions ``w``. Where the prior
is the same for all outputs, one eigendecomposition of ``G`` in the metric of that prior gives the
posterior for every noise and every multiple of the prior. Any other prior takes one factor an
output, each of edge ``D'``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hoarfrost import _core
from hoarfrost.errors import PriorTooSmallError
from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.base import ROOTS, Factor, Progress, Scale, common_scale, errors_at
from hoarfrost.laplace.structure.cost import Cost, Setting
from hoarfrost.laplace.structure.roots import Roots, of_rotation, root_of, separate_roots
from hoarfrost.likelihood import Gaussian
from hoarfrost.memory import check_room
from hoarfrost.types import Array


@dataclass(frozen=True, eq=False)
class GramFactor(Factor):
    """Outputs that share a prior; `noise_precision` has shape ``(C,)``, `multiple` is the prior's.

    The noise is inside the core's factor, so `scale` only ever comes from `scaled`.
    """

    noise_precision: Array = dataclasses.field(default_factory=lambda: np.ones(1))
    multiple: float = 1.0

    def prior_traces(self, prior_precision: Array, groups: Array, num_groups: int) -> Array:
        """``sum_{i in g} T_i Sigma_ii``; for one group from the eigenvalues alone."""
        if num_groups > 1:
            return super().prior_traces(prior_precision, groups, num_groups)
        weighted = np.outer(self.noise_precision, self.posterior.eigenvalues())
        return np.array([np.sum(self.multiple / (weighted + self.multiple))])

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``: outputs do not covary."""
        return between_points.diagonal_matrices(self.functional_variance(block, question))

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points, shape ``(B, C, B, C)``: outputs do not covary."""
        return between_points.from_variances(self, block)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance: nothing is made from all parameters."""
        return between_points.variances_bytes(points, num_outputs, len(self.order))

    def roots(self, covariance: bool) -> Roots:
        """One rotation for all outputs, and their variances along its rows."""
        edge = len(self.order) // len(self.noise_precision)
        check_room("the rotation of a layer", 16 * (edge**2 + len(self.order)), ROOTS)
        rotation, precision = self.posterior.rotation()
        variances = 1 / (precision * self.scale)
        return Roots({"rotation": rotation, "variances": variances}, of_rotation)


@dataclass(frozen=True, eq=False)
class SeparateFactors(Factor):
    """One factor an output; `posterior` is a sequence of the core's, `scales` one number each."""

    posterior: Sequence[Any]
    scales: Array = dataclasses.field(default_factory=lambda: np.ones(1))

    @property
    def nbytes(self) -> int:
        """Bytes of all factors; outputs under the same noise share one."""
        return sum(int(one.nbytes) for one in {id(one): one for one in self.posterior}.values())

    def drop_cache(self) -> None:
        """Give back what each factor keeps for later predictions."""
        for one in self.posterior:
            one.drop_cache()

    def quadratic(self, vector: Array) -> float:
        """``v^T A v`` for a vector ``(P,)``."""
        parts = vector[self.order].reshape(len(self.posterior), -1)
        forms = [one.quadratic(part) for one, part in zip(self.posterior, parts, strict=True)]
        return float(np.sum(np.asarray(forms) * self.scales) * self.scale)

    def log_det(self) -> float:
        """``log |A|``."""
        log_scales = np.log(self.scales * self.scale) * self._edge
        return float(sum(one.log_det() for one in self.posterior) + log_scales.sum())

    def variance(self) -> Array:
        """Diagonal of ``A^-1``, shape ``(P,)``."""
        parts = np.stack([one.variance() for one in self.posterior])
        parts /= self._column
        return self._ravelled(parts.ravel())

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""
        return self._block_diagonal("covariance", np.divide)

    def precision(self) -> Array:
        """``A``, shape ``(P, P)``."""
        return self._block_diagonal("precision", np.multiply)

    def deviations(self, seed: int, n_samples: int) -> Array:
        """Draws of ``N(0, A^-1)``, shape ``(n_samples, P)``, each output from its own stream."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self.posterior), np.uint64)
        draws = np.empty((n_samples, len(self.posterior), self._edge))
        for output, (one, own) in enumerate(zip(self.posterior, seeds, strict=True)):
            draws[:, output] = one.sample(int(own), n_samples)
        draws /= np.sqrt(self._column)
        return self._ravelled(draws.reshape(n_samples, -1))

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """The variance of each output, shape ``(B, C)``."""
        parts = [one.functional_variance(block, question)[:, 0] for one in self.posterior]
        variance: Array = np.stack(parts, axis=1) / self._column[:, 0]
        return variance

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``: outputs do not covary."""
        return between_points.diagonal_matrices(self.functional_variance(block, question))

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points, shape ``(B, C, B, C)``: outputs do not covary."""
        return between_points.from_variances(self, block)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance: nothing is made from all parameters."""
        return between_points.variances_bytes(points, num_outputs, len(self.order))

    def roots(self, covariance: bool) -> Roots:
        """One root for each factor, which outputs under the same noise share."""
        made = {id(one): one for one in self.posterior}
        check_room("a root for each output", 8 * (len(made) + 2) * self._edge**2, ROOTS)
        roots = np.stack([root_of(one.output_covariance(0)) for one in made.values()])
        places = {key: place for place, key in enumerate(made)}
        which = np.array([places[id(one)] for one in self.posterior])
        return separate_roots(roots, which, 1 / self._column[:, 0])

    @property
    def _edge(self) -> int:
        return len(self.order) // len(self.posterior)

    @property
    def _column(self) -> Array:
        return (self.scales * self.scale)[:, None]

    def _block_diagonal(self, kind: Literal["covariance", "precision"], rescale: np.ufunc) -> Array:
        matrix = np.zeros((len(self.order), len(self.order)))
        identity = np.arange(self._edge, dtype=np.int64)
        parts = self.order.reshape(len(self.posterior), -1)
        for part, one, scale in zip(parts, self.posterior, self.scales * self.scale, strict=True):
            block = getattr(one, kind)(identity)
            matrix[np.ix_(part, part)] = rescale(block, scale, out=block)
        return matrix


@dataclass(eq=False)
class GaussianHeadCurvature:
    """The Gram matrix of a last layer's inputs, and the noise precision of each output.

    The last eigendecomposition is kept for priors that are a multiple of its own.
    """

    gram: Any
    noise_precision: Array
    order: Array
    basis: tuple[Array, Any] | None = None

    structure: ClassVar[str] = "full"
    resumable: ClassVar[bool] = False

    @staticmethod
    def suits(setting: Setting) -> bool:
        """For a last layer under Gaussian noise of a given size."""
        return setting.head == "gaussian"

    @staticmethod
    def cost(setting: Setting) -> Cost:
        """One Gram matrix; one prior for all outputs leaves a single decomposition of it."""
        curvature, factor, panel, _, _ = _core.head_bytes("independent", 1, setting.num_features)
        cache = 16 * setting.num_params
        if not setting.same_prior:
            return Cost(curvature, setting.num_outputs * factor, panel, cache, widens=2)
        # The eigenvectors, and the matrix with the work space of their computation.
        square = 8 * setting.num_features**2
        return Cost(curvature, square, panel, cache, between=3 * square, widens=2)

    @classmethod
    def empty(cls, setting: Setting) -> GaussianHeadCurvature:
        """No points yet."""
        return cls.of_core(setting, _core.HeadCurvature("independent", 1, setting.num_features))

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> GaussianHeadCurvature:
        """With a sum of the core's."""
        likelihood = setting.require_likelihood()
        assert isinstance(likelihood, Gaussian)
        return cls(core, likelihood.noise_precision(setting.num_outputs), setting.order())

    @property
    def core(self) -> Any:
        """The core's sum."""
        return self.gram

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their layer inputs ``(B, D')``; their outputs play no part."""
        self.gram.add(block, np.ones((len(block), 1)))
        self.basis = None

    def merge(self, other: GaussianHeadCurvature, weight: Scale = 1.0) -> None:
        """Add the points of another curvature of the same layer, with a weight.

        Raises
        ------
        InvalidArgumentError
            If the noise of the two is not the same multiple for every output.
        """
        ratio = common_scale(weight * other.noise_precision / self.noise_precision)
        self.gram.merge(other.gram, ratio)
        self.basis = None

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; the Gram matrix stays as it is.

        The eigendecomposition knows each direction to the rounding of the largest one. Where that
        is not enough, as with features of very different scales, one Cholesky factor an output may
        still do, which knows each to its own.
        """
        noise = self.noise_precision * scale
        priors = prior_precision[self.order].reshape(len(noise), -1)
        if self.shares_prior(prior_precision):
            start, multiple = self._basis(priors[0])
            try:
                posterior = start.posterior(multiple, noise)
            except PriorTooSmallError:
                return self._separate(priors, noise, progress)
            return GramFactor(posterior, self.order, noise_precision=noise, multiple=multiple)
        return self._separate(priors, noise, progress)

    def _separate(self, priors: Array, noise: Array, progress: Progress) -> SeparateFactors:
        """One factor an output, or for all outputs under the same noise and prior."""
        made: dict[bytes, Any] = {}
        keys = [row.tobytes() for row in np.column_stack([priors, noise])]
        each = _core.head_bytes("independent", 1, priors.shape[1])[1]
        check_room(
            f"one factor for each of {len(set(keys))} outputs",
            len(set(keys)) * each,
            "give all outputs the same noise_std and prior_precision, or a larger prior_precision",
        )
        for key, prior, weight in zip(keys, priors, noise, strict=True):
            if key not in made:
                with errors_at(float(weight)):
                    made[key] = self.gram.factor(prior / weight, progress=progress)
        return SeparateFactors([made[key] for key in keys], self.order, scales=noise)

    def flops(self, prior_precision: Array) -> float:
        """Of one factor an output, or none: an eigendecomposition can not say how far it is."""
        if self.shares_prior(prior_precision):
            return 0.0
        num_outputs = len(self.noise_precision)
        return num_outputs * _core.factor_flops(len(self.order) // num_outputs)

    def shares_prior(self, prior_precision: Array) -> bool:
        """Whether a prior is the same for all outputs."""
        priors = prior_precision[self.order].reshape(len(self.noise_precision), -1)
        return bool((priors == priors[0]).all())

    def eigenvalues(self, prior_precision: Array) -> Array:
        """Of the Gram matrix in the metric of a prior that all outputs share, shape ``(D',)``."""
        prior = prior_precision[self.order].reshape(len(self.noise_precision), -1)[0]
        start, multiple = self._basis(prior)
        values: Array = start.eigenvalues() / multiple
        return values

    def _basis(self, prior: Array) -> tuple[Any, float]:
        if self.basis is not None:
            ratio = prior / self.basis[0]
            # A multiple is one number up to its own rounding.
            if np.ptp(ratio) <= 4 * np.finfo(np.float64).eps * ratio[0]:
                return self.basis[1], float(ratio[0])
        # A basis of one precision for all is that of ones, whichever was asked for first.
        unit = prior / prior[0] if (prior == prior[0]).all() else prior
        self.basis = None  # there is no room for two
        start = self.gram.kronecker(unit)
        self.basis = (unit, start)
        return start, float(prior[0] / unit[0])
