"""Choosing the prior variance of a Laplace posterior: by the evidence, or on validation data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import is_choice, is_number, shown
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace import Laplace
from hoarfrost.laplace.evidence.validation import Question, best_on_held_out_data
from hoarfrost.training.layer_alone import check_validation

# Logarithms of the prior variance between which it is tuned by default.
LOG_VARIANCE_BOUNDS = (-10.0, 10.0)


@dataclass(frozen=True, eq=False)
class ReferencePrior:
    """The prior precision at a log-variance of 0.

    Attributes
    ----------
    precision : float or tree
        1 for one variance of all parameters; else the precisions of the model's prior, whose
        log-variances are all moved by the same amount.
    """

    precision: Any

    @property
    def isotropic(self) -> bool:
        """Whether all parameters have the same variance."""
        return isinstance(self.precision, float)

    def at(self, log_variance: float) -> Any:
        """The prior precision at a log-variance, or at a shift of each."""
        scale = math.exp(-log_variance)
        return jax.tree.map(lambda precision: scale * precision, self.precision)

    def log_variance(self, laplace: Laplace) -> float:
        """Where the prior of a posterior stands."""
        leaf = np.ravel(jax.tree.leaves(self.precision)[0])[0]
        return -math.log(laplace.prior.vector[0] / float(leaf))

    def status(self, log_variance: float) -> dict[str, float]:
        """What the status says of a shift; one variance for all is said elsewhere."""
        return {} if self.isotropic else {"prior_log_variance_shift": log_variance}


def tune_by_evidence(
    laplace: Laplace, reference: ReferencePrior, bounds: tuple[float, float]
) -> dict[str, Any]:
    """Set the prior of a posterior to the largest evidence within bounds; returns the status."""
    here = reference.log_variance(laplace)
    laplace.optimize_prior_scale(math.exp(here - bounds[1]), math.exp(here - bounds[0]))
    tuning = laplace.tuning
    assert tuning is not None  # set by the line above
    return {
        "tuned": "evidence",
        "tuning": {
            "objective": tuning.evidence,
            "bounds": bounds,
            "at_bound": tuning.at_bound,
            "evaluations": tuning.evaluations,
            "gradient_norm": tuning.gradient_norm,
            "residual": tuning.residual,
            **reference.status(reference.log_variance(laplace)),
        },
    }


def tune_on_validation_data(
    laplace: Laplace,
    reference: ReferencePrior,
    val: DataLoader,
    bounds: tuple[float, float],
    *,
    link: Any = None,
    n_samples: int = 100,
    grid_size: int = 9,
) -> tuple[Laplace, dict[str, Any]]:
    """The posterior under the prior of the largest predictive log-probability, and the status.

    The given posterior stays as it was, but without its factor, which it makes again if asked.
    The data are gone over for each prior that is tried: what cannot be used of them is found first.
    """
    known = laplace.linearised
    check_validation(known.subset, known.likelihood, val, known.ignored_label, whole=True)
    # The factor and one candidate's would not both fit where memory is tight.
    laplace.store.release()
    best, found = best_on_held_out_data(
        lambda x: laplace.with_prior_precision(reference.at(x)),
        Question(val, link, n_samples),
        bounds,
        grid_size=grid_size,
    )
    status = {
        "tuned": "validation",
        "tuning": {
            "objective": found.value,
            "bounds": bounds,
            "at_bound": found.at_edge,
            "evaluations": found.evaluations,
            **reference.status(found.argument),
        },
    }
    return best, status


def check_tuning(mode: Any, val: Any, low: Any, high: Any) -> tuple[float, float]:
    """The bounds, if these arguments of `prior_log_variance_tuning` fit together.

    Raises
    ------
    InvalidArgumentError
        If they do not.
    """
    if not is_choice(mode, ("cv", "marginal_lik")):
        raise InvalidArgumentError(f"mode is {shown(mode)}; give 'cv' or 'marginal_lik'")
    if mode == "cv" and val is None:
        raise InvalidArgumentError(
            "mode='cv' chooses the prior variance on validation data: give val_data_loader, or "
            "mode='marginal_lik'"
        )
    if mode == "marginal_lik" and val is not None:
        raise InvalidArgumentError(
            "mode='marginal_lik' chooses the prior variance by the training data alone: leave "
            "val_data_loader out, or give mode='cv'"
        )
    for name, value in (("min_prior_log_var", low), ("max_prior_log_var", high)):
        if not is_number(value) or not abs(float(value)) <= 700:
            raise InvalidArgumentError(
                f"{name} is {shown(value)}; give the logarithm of a prior variance, between -700 "
                "and 700"
            )
    if not low < high:
        raise InvalidArgumentError(
            f"min_prior_log_var is {low!r} and max_prior_log_var is {high!r}; the first must be "
            "the smaller one"
        )
    return float(low), float(high)
