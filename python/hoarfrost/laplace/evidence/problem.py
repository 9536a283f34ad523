"""The evidence as a function of prior precisions, with its derivative, one factor at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hoarfrost.errors import InvalidArgumentError, NotPositiveDefiniteError
from hoarfrost.laplace.evidence.concave_search import Point
from hoarfrost.laplace.evidence.evidence import log_marginal_likelihood
from hoarfrost.laplace.evidence.groups import PriorGroups
from hoarfrost.laplace.evidence.noise import (
    LARGEST_PRECISION,
    SMALLEST_PRECISION,
    Residuals,
    best_noise_precision,
)
from hoarfrost.laplace.evidence.spectral_search import (
    SpectralModel,
    num_products,
    quadrature,
)
from hoarfrost.laplace.structure.base import Curvature, Factor, Scale, SeparateNoise, Spectral
from hoarfrost.types import Array


@dataclass(eq=False)
class EvidenceProblem:
    """The evidence of a posterior as a function of the logarithms of its precisions.

    With the noise tuned, coordinates are precisions relative to it, and the best noise at each
    place is found in closed form (one for all outputs) or by one-dimensional searches (one an
    output, where outputs share one Gram matrix): the evidence is concave in both together.
    Only the last factor is kept: there is no room for two. The prior precision is ``exp(x)`` of a
    parameter's group times its entry in `shape`, and `bounds` are those of ``x``.
    """

    curvature: Curvature
    groups: PriorGroups
    shape: Array
    bounds: tuple[float, float]
    deviation: Array
    log_likelihood: float
    residuals: Residuals | None
    noise_precision: Array | None
    tunes_noise: bool
    separate_noise: bool
    factor: Factor | None
    temperature: float = 1.0
    last_noise: Array | None = None
    last_prior: Array | None = None

    @property
    def scale(self) -> Scale:
        """What the curvature is multiplied by at the noise that there is now."""
        if self.residuals is None or self.noise_precision is None:
            return 1 / self.temperature
        return self.residuals.scale(self.noise_precision) / self.temperature

    def start(self, prior: Array) -> Point:
        """The point of the factor that there is, if it has this structure; else a new one."""
        relative = np.log(prior / self.shape)
        logs = self.groups.total(relative) / self.groups.total(np.ones_like(prior))
        logs = np.clip(logs, *self.bounds)
        same = np.abs(relative - logs[self.groups.index]).max() < 1e-14
        if same and self.factor is not None and not self.separate_noise:
            return self._point(logs, prior, self.factor, self.noise_precision)
        return self(logs)

    def __call__(self, logs: Array) -> Point:
        """The evidence and its derivative, at these logarithms or above those too small to factor.

        Raises
        ------
        NotPositiveDefiniteError
            If larger precisions do not help.
        """
        self.factor = None
        for _ in range(8):
            prior = np.exp(logs)[self.groups.index]
            prior *= self.shape
            noise, scale = self.noise_precision, self.scale
            if self.separate_noise:
                noise = self._best_noise(prior)
                assert self.residuals is not None
                scale = self.residuals.scale(noise) / self.temperature
            try:
                factor = self.curvature.factor(prior, scale=scale)
            except NotPositiveDefiniteError as error:
                logs = self._above(error, logs, prior)
            else:
                return self._point(logs, prior, factor, noise)
        raise InvalidArgumentError(
            "the evidence cannot be computed: no prior precision within rounding's reach makes the "
            "posterior precision positive definite; check the scale of the inputs"
        )

    def log_det(self, log_precision: float) -> float:
        """The log-determinant alone, for one group."""
        self.factor = None
        prior = self.shape * math.exp(log_precision)
        return self.curvature.factor(prior, scale=self.scale).log_det()

    def spectral_model(self) -> SpectralModel | None:
        """What the spectrum is like in the metric of `shape`, where the curvature can tell."""
        self.factor = None
        if not isinstance(self.curvature, Spectral) or np.ndim(self.scale) > 0:
            return None
        found = self.curvature.spectrum(self.shape, num_products(len(self.shape)))
        if found is None:
            return None
        nodes, weights = quadrature(*found)
        return SpectralModel(len(self.shape), nodes * self.scale, weights)

    def _above(self, error: NotPositiveDefiniteError, logs: Array, prior: Array) -> Array:
        """Logarithms at which rounding leaves a factor, after one that it did not.

        This is all that the search does about a prior precision that is too small.
        """
        least = error.least_prior_precision
        if not np.isfinite(least) or bool(np.all(prior >= least)):
            raise error
        smallest = np.full(logs.shape, np.inf)
        np.minimum.at(smallest, self.groups.index, prior)
        return logs + np.log(np.maximum(least / smallest, 1.0))

    def _best_noise(self, prior: Array) -> Array:
        assert isinstance(self.curvature, SeparateNoise) and self.residuals is not None
        values = self.curvature.eigenvalues(prior)
        num_data = self.residuals.num_data / self.temperature
        # In w / temperature the tempered evidence is that of fewer points.
        return self.temperature * best_noise_precision(num_data, self.residuals.squares, values)

    def _point(self, logs: Array, prior: Array, factor: Factor, noise: Array | None) -> Point:
        sizes = self.groups.total(np.ones_like(prior))
        traces = factor.prior_traces(prior, self.groups.index, self.groups.size)
        log_det = factor.log_det()
        if self.tunes_noise and not self.separate_noise:
            multiple = self._noise_multiple(prior)
            assert noise is not None
            factor, prior, noise = factor.scaled(multiple), prior * multiple, noise * multiple
        penalty = self.groups.total(prior * self.deviation**2)
        log_likelihood = self.log_likelihood
        if self.residuals is not None and noise is not None:
            log_likelihood = self.residuals.log_likelihood(noise)
        evidence = log_marginal_likelihood(
            log_likelihood / self.temperature, prior, self.deviation, factor.log_det()
        )
        self.factor, self.last_noise, self.last_prior = factor, noise, prior
        return Point(logs, sizes - traces, penalty, evidence, log_det, sizes)

    def _noise_multiple(self, prior: Array) -> float:
        """The best factor on all noise precisions, and on the prior with them.

        ``N C log w - w (RSS + penalty)`` is all of the evidence that depends on it; a temperature
        divides ``N`` and ``RSS``.
        """
        assert self.residuals is not None and self.noise_precision is not None
        squares = float(self.noise_precision @ self.residuals.squares) / self.temperature
        squares += float(np.sum(prior * self.deviation**2))
        count = self.residuals.num_data * len(self.noise_precision) / self.temperature
        low = SMALLEST_PRECISION / float(self.noise_precision.min())
        high = LARGEST_PRECISION / float(self.noise_precision.max())
        return high if squares * high <= count else max(count / squares, low)

    def log_penalty(self, log_precision: float) -> float:
        """Logarithm of the penalty anywhere, for one group."""
        squares = float(np.sum(self.shape * self.deviation**2))
        if squares == 0:
            return -700.0
        logs = log_precision + math.log(squares)
        if not self.tunes_noise:
            return logs
        prior = self.shape * math.exp(log_precision)
        return logs + math.log(self._noise_multiple(prior))
