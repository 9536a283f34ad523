"""The posterior that each approximator stands for: the only list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.approximator import (
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.laplace import LaplacePosterior
from hoarfrost.prob_model.posterior.map import MAPPosterior

POSTERIORS: dict[type, Callable[[Joint, Any], Posterior]] = {
    LaplacePosteriorApproximator: LaplacePosterior,
    MAPPosteriorApproximator: lambda joint, approximator: MAPPosterior(joint),
}


def make_posterior(joint: Joint, approximator: Any) -> Posterior:
    """The posterior of an approximator, not fitted yet.

    Raises
    ------
    InvalidArgumentError
        If it is none that there is.
    """
    for kind, make in POSTERIORS.items():
        if isinstance(approximator, kind):
            return make(joint, approximator)
    raise InvalidArgumentError(
        f"posterior_approximator is {approximator!r}; give "
        f"{' or '.join(f'{kind.__name__}()' for kind in POSTERIORS)}"
    )
