"""The core's curvatures and factors, in the order of the trainable tree.

The core counts a head's parameters class-major; everybody outside counts them as `ravel_pytree`
does. The permutation between the two lives here and nowhere else: ``order[k]`` is the ravelled
index of the core's index ``k``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hoarfrost import _core
from hoarfrost.curvature import HeadLayout
from hoarfrost.errors import InvalidArgumentError, NotPositiveDefiniteError
from hoarfrost.laplace.plan import check_room
from hoarfrost.likelihood import Likelihood

Array = np.ndarray

# What the curvature is multiplied by: a number, or one an output, shape ``(C,)``.
Scale = float | Array

# Called with the floating-point operations done so far.
Progress = Callable[[float], object] | None


@dataclass(frozen=True, eq=False)
class Factor:
    """A factorised precision ``A = scale (H + T / scale)``.

    Other noise multiplies all of ``H``; the core factors ``H`` with a prior divided by that
    number, and what comes out is scaled here.

    Attributes
    ----------
    posterior : object
        The core's factor.
    order : ndarray
        Ravelled index of each core index, shape ``(P,)``, int64.
    scale : float
        What the core's precision is multiplied by.
    """

    posterior: Any
    order: Array
    scale: float = 1.0

    @property
    def nbytes(self) -> int:
        """Bytes of the factor."""
        return int(self.posterior.nbytes)

    def drop_cache(self) -> None:
        """Give back what is kept for later predictions; nothing but a last layer keeps any."""

    def log_det(self) -> float:
        """``log |A|``."""
        return float(self.posterior.log_det()) + len(self.order) * math.log(self.scale)

    def variance(self) -> Array:
        """Diagonal of ``A^-1``, shape ``(P,)``."""
        return self._ravelled(self._shrunk(self.posterior.variance()))

    def prior_traces(self, prior_precision: Array, groups: Array, num_groups: int) -> Array:
        """``sum_{i in g} T_i Sigma_ii`` for each group; `groups` has one index a parameter."""
        weights = prior_precision * self.variance()
        return np.bincount(groups, weights=weights, minlength=num_groups)

    def covariance(self) -> Array:
        """``A^-1``, shape ``(P, P)``."""
        return self._shrunk(self.posterior.covariance(self.order))

    def precision(self) -> Array:
        """``A``, shape ``(P, P)``."""
        precision: Array = self.posterior.precision(self.order)
        if self.scale != 1.0:
            precision *= self.scale
        return precision

    def deviations(self, seed: int, n_samples: int) -> Array:
        """Draws of ``N(0, A^-1)``, shape ``(n_samples, P)``."""
        draws = self._ravelled(self.posterior.sample(seed, n_samples))
        if self.scale != 1.0:
            draws /= math.sqrt(self.scale)
        return draws

    def functional_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from layer inputs or Jacobians."""
        return self._shrunk(self.posterior.functional_covariance(block))

    def functional_variance(self, block: Array) -> Array:
        """Its diagonal, shape ``(B, C)``."""
        return self._shrunk(self.posterior.functional_variance(block))

    def curvature(self, prior_precision: Array, memory_budget: int | None) -> Curvature | None:
        """``H`` again, from this factor and its prior; None where it does not come back."""
        return None

    def scaled(self, scale: float) -> Factor:
        """The factor of `scale` times this precision."""
        return dataclasses.replace(self, scale=self.scale * scale)

    def _shrunk(self, values: Array) -> Array:
        """Divide a covariance of the core, which belongs to nobody else yet, by the scale."""
        if self.scale != 1.0:
            values /= self.scale
        return values

    def _ravelled(self, core_order: Array) -> Array:
        ravelled = np.empty_like(core_order)
        ravelled[..., self.order] = core_order
        return ravelled


@dataclass(frozen=True, eq=False)
class DenseFactor(Factor):
    """Any parameters, one packed factor."""

    def curvature(self, prior_precision: Array, memory_budget: int | None) -> Curvature:
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
class HeadFactor(Factor):
    """A last layer; `num_outputs` is its ``C``."""

    num_outputs: int = 1

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

    def functional_variance(self, block: Array) -> Array:
        """``sum_i J_ci^2 Sigma_ii``, shape ``(B, C)``; for a last layer from its inputs."""
        variance = self._shrunk(self.posterior.variance())
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


def common_scale(scale: Scale) -> float:
    """The one number that all outputs share.

    Raises
    ------
    InvalidArgumentError
        If they differ: only a last layer under Gaussian noise keeps its outputs apart.
    """
    values = np.atleast_1d(np.asarray(scale, dtype=np.float64))
    # Noise that was given as standard deviations comes back with the rounding of a square.
    if np.ptp(values) > 16 * np.finfo(np.float64).eps * values.max():
        raise InvalidArgumentError(
            "noise_std changes by another factor for each output (variances times "
            f"{1 / np.asarray(scale)}), but this posterior's curvature adds all outputs up: give "
            "all of them in the proportions of the fit, or fit again with this noise_std"
        )
    return float(values[0])


class Curvature(Protocol):
    """A sum ``H`` over the data, which is factored with a prior precision."""

    def add(self, outputs: Array, block: Array) -> None:
        """Add some points: their outputs ``(B, C)``, and their layer inputs or rows."""

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; without `keep` the curvature may be used up by it."""

    def flops(self, prior_precision: Array) -> float:
        """Operations that `progress` counts up to; 0 where a factor takes but a moment."""


@dataclass(frozen=True, eq=False)
class HeadCurvature:
    """A last layer with its full covariance."""

    likelihood: Likelihood
    head: Any
    order: Array
    num_outputs: int

    @classmethod
    def empty(cls, layout: HeadLayout, likelihood: Likelihood) -> HeadCurvature:
        """No points yet."""
        head = _core.HeadCurvature(likelihood.head, layout.num_outputs, layout.num_features)
        return cls(likelihood, head, layout.order(), layout.num_outputs)

    def add(self, outputs: Array, block: Array) -> None:
        """Add points by their outputs ``(B, C)`` and layer inputs ``(B, D')``."""
        if self.likelihood.head == "softmax":
            self.head.add(block, outputs)
        else:
            self.head.add(block, self.likelihood.head_weights(outputs.astype(np.float64)))

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; a head's blocks stay as they are."""
        scale = common_scale(scale)
        posterior = self.head.factor(prior_precision[self.order] / scale, progress=progress)
        return HeadFactor(posterior, self.order, scale, self.num_outputs)

    def flops(self, prior_precision: Array) -> float:
        """Of one factor over all outputs (or their contrasts), or of one an output."""
        priors = prior_precision[self.order].reshape(self.num_outputs, -1)
        num_features = priors.shape[1]
        if self.likelihood.head != "softmax":
            return self.num_outputs * _core.factor_flops(num_features)
        contrasts = self.num_outputs - bool((priors == priors[0]).all())
        return _core.factor_flops(contrasts * num_features)


@dataclass(frozen=True, eq=False)
class DenseCurvature:
    """Any parameters, from Jacobian rows, with their full covariance.

    `rounding` is what the prior of the factor that it came back from has left in it, if it did.
    """

    matrix: Any
    order: Array
    rounding: float = 0.0

    @classmethod
    def empty(cls, num_params: int) -> DenseCurvature:
        """No points yet."""
        return cls(_core.DenseCurvature(num_params), np.arange(num_params, dtype=np.int64))

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
