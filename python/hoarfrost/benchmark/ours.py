"""Ours: the public front, and the two core rows (which say that they use `hoarfrost._core`)."""

from __future__ import annotations

from typing import Any

import numpy as np

import hoarfrost
from hoarfrost import _core
from hoarfrost.benchmark import models
from hoarfrost.benchmark.cases import (
    BATCH_SIZE,
    NEW_PRIOR_PRECISION,
    NOISE_STD,
    NUM_SAMPLES,
    PRIOR_PRECISION,
    Case,
    params_of,
)
from hoarfrost.data import DataLoader
from hoarfrost.likelihood import Gaussian

Inputs = dict[str, np.ndarray]


class Ours:
    """`hoarfrost.fit_laplace` and what its posterior answers."""

    def __init__(self, case: Case, inputs: Inputs) -> None:
        self.case = case
        self.loader = DataLoader.from_array_data((inputs["x"], inputs["y"]), batch_size=BATCH_SIZE)
        self.points = inputs["points"]
        self.params = params_of(inputs)
        self.posterior: Any = None
        self.tuned: Any = None
        self.seed = 0

    def prepare(self, operation: str) -> None:
        """What is not timed: an old posterior goes before a fit; a fresh one has no cache."""
        if operation == "fit":
            self.posterior = None
        elif operation == "functional_fresh":
            self.posterior.drop_cache()
        elif operation == "tune":
            self.tuned = self.posterior.with_prior_precision(PRIOR_PRECISION)

    def fit(self) -> None:
        """One pass over the data and one factorisation."""
        head = self.case.is_head
        likelihood: Any = {
            "gaussian": Gaussian(noise_std=NOISE_STD),
            "bernoulli": "bernoulli",
        }.get(self.case.kind, "categorical")
        self.posterior = hoarfrost.fit_laplace(
            models.head_apply if head else models.network_apply,
            self.params,
            self.loader,
            likelihood=likelihood,
            prior_precision=PRIOR_PRECISION,
            progress=False,
        )

    def evidence(self) -> float:
        """``log |A|``, from the evidence."""
        return self._log_det(PRIOR_PRECISION, self.posterior.log_marginal_likelihood())

    def new_prior(self) -> float:
        """``log |A|`` under another prior, from its evidence: one factorisation."""
        evidence = self.posterior.log_marginal_likelihood(NEW_PRIOR_PRECISION)
        return self._log_det(NEW_PRIOR_PRECISION, evidence)

    def tune(self) -> None:
        """The prior precision of the largest evidence, to its maximum."""
        self.tuned.optimize_prior_precision()
        self.tuned = None

    def sample(self) -> Any:
        """Draws, as a tree of parameters."""
        self.seed += 1
        return models.wait(self.posterior.sample(self.seed, NUM_SAMPLES))

    def functional(self) -> np.ndarray:
        """Covariance of the outputs at the points."""
        covariance: np.ndarray = self.posterior.functional_covariance(self.points)
        return covariance

    functional_fresh = functional

    def core_products(self) -> None:
        """The core alone, on rows that are there already: as many products as the fit has."""
        size = self.case.num_params
        chunk = max(1, 2**26 // (4 * self.case.num_outputs * size)) * (self.case.num_outputs - 1)
        rows = np.resize(self.points.ravel(), (chunk, size))
        curvature = _core.FullCurvature(size)
        left = self.case.num_data * (self.case.num_outputs - 1)
        while left > 0:
            curvature.add_rows(rows[: min(left, chunk)])
            left -= chunk
        curvature.finish()

    def _log_det(self, prior_precision: float, evidence: float) -> float:
        posterior = self.posterior
        log_prior = posterior.num_params * np.log(prior_precision)
        log_prior -= prior_precision * float(np.sum(np.square(posterior.mean)))
        return float(2 * posterior.log_likelihood + log_prior - 2 * evidence)


class CoreCholesky:
    """The core's Cholesky by itself, its check on, of a matrix that is factored in place."""

    def __init__(self, case: Case, inputs: Inputs) -> None:
        self.rows = inputs["rows"]
        self.prior = np.full(case.num_params, float(case.num_params))
        self.curvature: Any = None
        self.factor: Any = None

    def prepare(self, operation: str) -> None:
        """A matrix to factor."""
        if operation == "cholesky":
            self.factor = None
            self.curvature = _core.FullCurvature(len(self.prior))
            self.curvature.add_rows(self.rows)
            self.curvature.finish()

    def cholesky(self) -> None:
        """Factor in place."""
        self.factor = self.curvature.factor(self.prior, keep=False)

    def evidence(self) -> float:
        """``log |A|``."""
        return float(self.factor.log_det())
