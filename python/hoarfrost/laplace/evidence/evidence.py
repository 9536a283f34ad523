"""The log marginal likelihood in closed form, under any prior and Gaussian noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.laplace.evidence.noise import Residuals
from hoarfrost.laplace.structure.base import Scale
from hoarfrost.prior import PriorPrecision
from hoarfrost.types import Array

NoiseStd = float | tuple[float, ...]


@dataclass(frozen=True)
class Earlier:
    """An earlier posterior that is the prior, ``N(m, A_0^-1)``, at the mean of the new one.

    Attributes
    ----------
    log_det : float
        ``log |A_0|``.
    penalty : float
        ``(theta - m)^T A_0 (theta - m)``.
    num_data : int
        Of its data.
    """

    log_det: float
    penalty: float
    num_data: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the evidence of a posterior depends on, but for the factor.

    Attributes
    ----------
    prior : PriorPrecision
        Of the trainable parameters.
    deviation : ndarray
        The mean's distance from the prior's mean, shape ``(P,)``, float64.
    log_likelihood : float
        Of the data at the mean.
    likelihood : str
        The likelihood's name.
    residuals : Residuals or None
        Under Gaussian noise of a given size, of which `noise_std` is the standard deviation: one
        number, or one for each output.
    temperature : float
        The likelihood stands to the power of ``1 / temperature``.
    earlier : Earlier or None
        Where the prior is an earlier posterior, whose precision holds that of `prior`.
    """

    prior: PriorPrecision
    deviation: Array
    log_likelihood: float
    likelihood: str
    residuals: Residuals | None = None
    noise_std: NoiseStd | None = None
    temperature: float = 1.0
    earlier: Earlier | None = None

    @property
    def noise_precision(self) -> Array | None:
        """``1 / noise_std^2`` of each output, shape ``(C,)``; None without Gaussian noise."""
        if self.residuals is None or self.noise_std is None:
            return None
        return self.residuals.noise_precision_of(self.noise_std)

    @property
    def scale(self) -> Scale:
        """What the curvature is multiplied by: 1 at temperature 1 under the noise of the fit."""
        noise = self.noise_precision
        if self.residuals is None or noise is None:
            return 1 / self.temperature
        return self.residuals.scale(noise) / self.temperature

    def at(
        self, prior: PriorPrecision | None, noise_std: float | Sequence[float] | None
    ) -> Evidence:
        """Under another prior or noise; None leaves it as it is.

        Raises
        ------
        InvalidArgumentError, ShapeError
            If the likelihood has no such noise, or it is no positive number for each output.
        """
        changed = self if prior is None else dataclasses.replace(self, prior=prior)
        if noise_std is None:
            return changed
        if self.residuals is None:
            raise InvalidArgumentError(
                f"noise_std is {noise_std!r}, but the likelihood {self.likelihood!r} has no "
                "Gaussian noise of a fixed size; leave it out"
            )
        noise = self.residuals.noise_precision_of(noise_std)
        std = tuple(noise_std) if isinstance(noise_std, Sequence) else noise_std
        return dataclasses.replace(
            changed, log_likelihood=self.residuals.log_likelihood(noise), noise_std=std
        )

    def value(self, log_det: float) -> float:
        """The evidence, where the posterior precision has this log-determinant."""
        log_likelihood = self.log_likelihood / self.temperature
        if self.earlier is not None:
            return log_likelihood + 0.5 * (self.earlier.log_det - self.earlier.penalty - log_det)
        found = log_marginal_likelihood(log_likelihood, self.prior.vector, self.deviation, log_det)
        if not math.isfinite(found):
            raise NonFiniteError(
                f"the evidence is {found}: a parameter lies {np.abs(self.deviation).max():.3g} "
                f"from prior_mean, under a prior_precision of up to {self.prior.vector.max():.3g}, "
                "which float64 does not hold; give a smaller precision, or another mean"
            )
        return found


def log_marginal_likelihood(
    log_likelihood: float, prior_precision: Array, deviation: Array, log_det: float
) -> float:
    """Laplace's approximation to the evidence of the trainable parameters.

    ``log p(D | theta) + (sum log tau - sum tau (theta - theta_0)^2 - log |H + T|) / 2``: the powers
    of 2 pi of the prior and of the Gaussian integral cancel (MacKay, 1992).

    Parameters
    ----------
    log_likelihood : float
        Of the data, at the mean.
    prior_precision, deviation : ndarray
        Prior precision, and the distance of the mean from the prior's mean, shape ``(P,)``,
        float64.
    log_det : float
        ``log |H + T|``.
    """
    with np.errstate(over="ignore"):
        log_prior = np.log(prior_precision).sum() - (prior_precision * deviation**2).sum()
    return float(log_likelihood + 0.5 * (log_prior - log_det))
