"""Prior precision, and Gaussian noise, at the maximum of the evidence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import is_choice
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace.evidence.concave_search import Found, search_many, search_one
from hoarfrost.laplace.evidence.evidence import Evidence
from hoarfrost.laplace.evidence.groups import PriorGroups, prior_groups
from hoarfrost.laplace.evidence.problem import EvidenceProblem
from hoarfrost.laplace.evidence.spectral_search import search_with_model
from hoarfrost.laplace.store import FactorStore
from hoarfrost.laplace.structure.base import Factor, LimitedPrior, SeparateNoise
from hoarfrost.types import Array, Tree

# Parameters from which on so many products with the curvature cost less than they save.
_LARGE = 4000

# Bounds of a prior precision.
SMALLEST, LARGEST = 1e-8, 1e8


@dataclass(frozen=True)
class Tuning:
    """What a search for the largest evidence found, and how it can be checked.

    Attributes
    ----------
    structure : str
        "scalar", "layerwise", "weights_biases" or "diagonal", or "scale".
    prior_precision : float or tree
        The new value, as it was returned.
    noise_std : float, tuple of float or None
        The noise, where it was tuned too.
    evidence : float
        The log marginal likelihood there.
    gradient_norm : float
        Largest derivative of the evidence in the logarithm of a precision, those at a bound aside.
    residual : float
        Largest ``|log(gamma_g) - log(tau_g |theta_g - theta_0g|^2)|``, those at a bound aside:
        MacKay's identity in relative terms. Under fixed noise no logarithm of a precision is
        farther than this from the maximum.
    iterations, evaluations : int
        Steps that were taken, and places at which the evidence and its derivative were computed.
    at_bound : bool
        Whether any precision sits at a bound (by default 1e-8 or 1e8, or what rounding allows).
    num_at_bound : int
        How many do.
    converged : bool
        Whether the residual is below 5e-7.
    """

    structure: str
    prior_precision: Any
    noise_std: float | tuple[float, ...] | None
    evidence: float
    gradient_norm: float
    residual: float
    iterations: int
    evaluations: int
    at_bound: bool
    num_at_bound: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Optimum:
    """A posterior's new prior, noise and factor, with the certificate."""

    prior_precision: Any
    prior_vector: Array
    noise_precision: Array | None
    noise_std: float | tuple[float, ...] | None
    factor: Factor
    tuning: Tuning


def optimise(
    evidence: Evidence,
    store: FactorStore,
    trainable: Tree,
    structure: Any,
    *,
    noise: bool,
    bounds: tuple[float, float] = (SMALLEST, LARGEST),
) -> Optimum:
    """The maximum of the evidence over prior precisions of a structure, and over the noise.

    With the structure "scale" the prior precision that there is gets one factor.

    Parameters
    ----------
    evidence : Evidence
        Where the search starts.
    store : FactorStore
        Its factor is released.
    trainable : tree
        The trainable tree, whose leaves make the groups.

    Raises
    ------
    InvalidArgumentError
        If the structure is unknown or none of the curvature's, there is no noise to tune, or the
        curvature was not kept and does not come back from the factor.
    """
    scaled, prior = is_choice(structure, ("scale",)), evidence.prior.vector
    groups = prior_groups("scalar" if scaled else structure, trainable)
    if noise and evidence.residuals is None:
        raise InvalidArgumentError(
            f"the likelihood {evidence.likelihood!r} has no noise to tune; use "
            "optimize_prior_precision(), or fit with hoarfrost.likelihood.Gaussian(noise_std=...)"
        )
    if not scaled and isinstance(store.curvature, LimitedPrior):
        # Groups that may come to any numbers, each another.
        store.curvature.check_prior(1.0 + groups.index)
    factor = store.release()
    problem = EvidenceProblem(
        factor=factor,
        temperature=evidence.temperature,
        curvature=store.required_curvature,
        groups=groups,
        shape=prior if scaled else np.ones_like(prior),
        bounds=(math.log(bounds[0]), math.log(bounds[1])),
        deviation=evidence.deviation,
        log_likelihood=evidence.log_likelihood,
        residuals=evidence.residuals,
        noise_precision=evidence.noise_precision,
        tunes_noise=noise,
        separate_noise=noise and _separable(evidence, store, groups),
    )
    # The problem holds it, and lets it go before it makes another.
    del factor
    found = _searched(problem, prior)
    return _optimum(evidence, problem, found, scaled)


def _searched(problem: EvidenceProblem, prior: Array) -> Found:
    """By the number of logarithms, and with a model of the spectrum where factors are dear."""
    if problem.groups.size > 1 or problem.separate_noise:
        return search_many(problem, problem.start(prior), *problem.bounds)
    model = problem.spectral_model() if len(prior) >= _LARGE else None
    if model is None:
        start = [problem.start(prior)]
        return search_one(problem, start, *problem.bounds, problem.log_penalty)
    return search_with_model(problem, problem.log_det, model, *problem.bounds, problem.log_penalty)


def _separable(evidence: Evidence, store: FactorStore, groups: PriorGroups) -> bool:
    """Whether each output can have a noise of its own: several, kept apart, under one prior."""
    curvature, noise_std = store.curvature, evidence.noise_std
    several = isinstance(noise_std, tuple) and len(noise_std) > 1
    if not several or not isinstance(curvature, SeparateNoise):
        return False
    return curvature.shares_prior(groups.index.astype(np.float64))


def _optimum(evidence: Evidence, problem: EvidenceProblem, found: Found, scaled: bool) -> Optimum:
    point, groups = found.point, problem.groups
    assert problem.factor is not None and problem.last_prior is not None
    first = np.unique(groups.index, return_index=True)[1]
    value = groups.value(problem.last_prior[first])
    if scaled:
        factor = float(problem.last_prior[0] / problem.shape[0])
        value = jax.tree.map(lambda precision: factor * precision, evidence.prior.value)
    noise_std: float | tuple[float, ...] | None = None
    if problem.tunes_noise:
        assert problem.last_noise is not None
        noise_std = as_noise_std(problem.last_noise, evidence.noise_std)
    free = point.gradient[~found.at_bound]
    tuning = Tuning(
        structure="scale" if scaled else groups.structure,
        prior_precision=value,
        noise_std=noise_std,
        evidence=point.evidence,
        gradient_norm=float(np.abs(free).max(initial=0.0)),
        residual=found.error,
        iterations=found.evaluations - 1,
        evaluations=found.evaluations,
        at_bound=bool(found.at_bound.any()),
        num_at_bound=int(found.at_bound.sum()),
        converged=found.converged,
    )
    if not found.converged:
        warnings.warn(
            f"the search for the largest evidence stopped after {found.evaluations} evaluations "
            f"with a residual of {found.error:.2g}; posterior.tuning holds what it reached",
            UserWarning,
            stacklevel=5,
        )
    return Optimum(value, problem.last_prior, problem.last_noise, noise_std, problem.factor, tuning)


def as_noise_std(
    precision: Array, like: float | Sequence[float] | None
) -> float | tuple[float, ...]:
    """Standard deviations in the form of those that there were: one number, or a tuple."""
    std = precision**-0.5
    return tuple(float(s) for s in std) if isinstance(like, tuple) else float(std[0])
