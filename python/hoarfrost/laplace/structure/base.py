"""What a structure of the posterior is: a curvature that adds up, its factor, and what it costs.

The core counts a head's parameters class-major; everybody outside counts them as `ravel_pytree`
does. The permutation between the two lives here and nowhere else: ``order[k]`` is the ravelled
index of the core's index ``k``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from hoarfrost.errors import InvalidArgumentError, NotPositiveDefiniteError
from hoarfrost.laplace.structure import between_points
from hoarfrost.laplace.structure.cost import Cost, Setting
from hoarfrost.laplace.structure.roots import Roots, of_rows, root_of
from hoarfrost.memory import check_room
from hoarfrost.types import Array

# What the curvature is multiplied by: a number, or one an output, shape ``(C,)``.
Scale = float | Array


# Numbers whose order is changed at once.
_PERMUTED_AT_ONCE = 2**20


# What helps where the roots of a covariance do not fit.
ROOTS = 'use form="samples", which takes n_samples vectors of the parameters'


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

    # Whether what it holds is all that its curvature is, so that this takes no memory beside it.
    holds_curvature: ClassVar[bool] = False

    @property
    def nbytes(self) -> int:
        """Bytes of the factor."""
        return int(self.posterior.nbytes)

    def drop_cache(self) -> None:
        """Give back what is kept for later predictions; nothing but a last layer keeps any."""

    def quadratic(self, vector: Array) -> float:
        """``v^T A v`` for a vector ``(P,)``."""
        return self.scale * float(self.posterior.quadratic(vector[self.order]))

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

    def covariance_as_factored(self) -> Array:
        """``A^-1``, shape ``(P, P)``, in the core's own order."""
        return self._shrunk(self.posterior.covariance(np.arange(len(self.order))))

    def dense_bytes(self) -> int:
        """Bytes of a covariance or a precision."""
        return 8 * len(self.order) ** 2

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

    def functional_covariance(self, block: Array, question: int = 0) -> Array:
        """``J A^-1 J^T``, shape ``(B, C, C)``, from layer inputs or Jacobians.

        `question` is how many points are asked about in all, of which these may be a part: a last
        layer chooses its way by that, so that the same question has the same bits.
        """
        return self._shrunk(self.posterior.functional_covariance(block))

    def functional_variance(self, block: Array, question: int = 0) -> Array:
        """Its diagonal, shape ``(B, C)``."""
        return self._shrunk(self.posterior.functional_variance(block))

    def joint_covariance(self, block: Array) -> Array:
        """``J A^-1 J^T`` over all points together, shape ``(B, C, B, C)``, from Jacobians."""
        return between_points.from_rows(self, block)

    def joint_bytes(self, points: int, num_outputs: int) -> int:
        """Bytes of a joint covariance of so many points, with what it is made from."""
        return between_points.rows_bytes(points * num_outputs, len(self.order))

    def roots(self, covariance: bool) -> Roots:
        """The covariance in plain arrays: of all parameters, for `covariance` or for variances."""
        check_room("the covariance and its root", 24 * len(self.order) ** 2, ROOTS)
        return Roots({"root": root_of(self.covariance())}, of_rows)

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
        """In the order of everybody outside; rows are permuted in their own memory."""
        rows = core_order.reshape(-1, len(self.order))
        step = max(1, _PERMUTED_AT_ONCE // len(self.order))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            some[:, self.order] = some.copy()
        return core_order


@dataclass(frozen=True, eq=False)
class Cores:
    """Several sums of the core's that make up one curvature."""

    parts: tuple[Any, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return sum(int(one.nbytes) for one in self.parts)


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


@contextlib.contextmanager
def errors_at(scale: float) -> Iterator[None]:
    """Errors of a factor of ``H + T / scale`` in terms of ``T``."""
    try:
        yield
    except NotPositiveDefiniteError as error:
        if scale == 1.0:
            raise
        raise error.at_scale(scale) from None


class Curvature(Protocol):
    """A sum ``H`` over the data, which is factored with a prior precision.

    Attributes
    ----------
    resumable : bool
        Whether a factorisation without `keep` that a bar broke off can be written down.
    """

    resumable: ClassVar[bool]

    @property
    def core(self) -> Any:
        """The core's sum, which is all that it holds of the data."""

    def add(self, outputs: Array, block: Array) -> None:
        """Add some points: their outputs ``(B, C)``, and their layer inputs or rows."""

    def merge(self, other: Any, weight: Scale = 1.0) -> None:
        """Add `weight` times another curvature of the same kind, which stays as it is."""

    def factor(
        self,
        prior_precision: Array,
        *,
        scale: Scale = 1.0,
        keep: bool = True,
        progress: Progress = None,
    ) -> Factor:
        """Factor ``scale H + T``; without `keep` the curvature may be used up by it.

        Raises
        ------
        NotPositiveDefiniteError
            If there is no factor, or (`PriorTooSmallError`) rounding would decide what comes out.
        """

    def flops(self, prior_precision: Array) -> float:
        """Operations that `progress` counts up to; 0 where a factor takes but a moment."""


class Structure(Protocol):
    """A class of curvatures, as the registry lists it."""

    structure: ClassVar[str]

    @staticmethod
    def suits(setting: Setting) -> bool:
        """Whether it is for such parameters."""

    @staticmethod
    def cost(setting: Setting) -> Cost | None:
        """What it takes, by arithmetic alone; None where that depends on what is not known."""

    @classmethod
    def empty(cls, setting: Setting) -> Curvature:
        """A curvature without points."""

    @classmethod
    def of_core(cls, setting: Setting, core: Any) -> Curvature:
        """A curvature with a sum of the core's."""


@runtime_checkable
class LimitedPrior(Protocol):
    """A curvature that cannot be factored with every prior."""

    def check_prior(self, prior_precision: Array) -> None:
        """Raise `InvalidArgumentError` where it cannot with this one, ``(P,)``."""


@runtime_checkable
class SeparateNoise(Protocol):
    """A curvature that keeps outputs apart, so that each can have a noise of its own."""

    def shares_prior(self, prior_precision: Array) -> bool:
        """Whether a prior is the same for all outputs."""

    def eigenvalues(self, prior_precision: Array) -> Array:
        """Of the curvature of one output, in the metric of a prior that all share."""


@runtime_checkable
class Spectral(Protocol):
    """A curvature that can tell what its spectrum is like."""

    def spectrum(self, prior_precision: Array, steps: int) -> tuple[int, Array, Array] | None:
        """Lanczos' matrices in the metric of a prior: their edge, diagonals and what is beside.

        The arrays have shape ``(steps, 8)``; None where the prior does not suit the structure.
        """
