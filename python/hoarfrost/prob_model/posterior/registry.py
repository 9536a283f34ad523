"""The posterior that each approximator stands for: the only list of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network import GivenModule
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.advi import ADVIPosterior, ADVIPosteriorApproximator
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.deep_ensemble import (
    DeepEnsemblePosterior,
    DeepEnsemblePosteriorApproximator,
)
from hoarfrost.prob_model.posterior.laplace import LaplacePosterior, LaplacePosteriorApproximator
from hoarfrost.prob_model.posterior.map import MAPPosterior, MAPPosteriorApproximator
from hoarfrost.prob_model.posterior.sgmcmc import (
    CyclicalSGLDPosterior,
    CyclicalSGLDPosteriorApproximator,
    SGHMCPosterior,
    SGHMCPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.sngp import SNGPPosterior, SNGPPosteriorApproximator
from hoarfrost.prob_model.posterior.sngp.sngp_module import with_random_features
from hoarfrost.prob_model.posterior.swag import SWAGPosterior, SWAGPosteriorApproximator


class Method(NamedTuple):
    """How the posterior of an approximator is made.

    Attributes
    ----------
    make : callable (joint, approximator) -> Posterior
        Not fitted yet.
    initialisation_draw : int
        Which of the keys of Fortuna's generator initialises the network of a model that is trained
        for the first time: two go before it to the check of its outputs, and one more where a
        MAP is trained on the way to another posterior.
    module : callable (approximator, GivenModule) -> GivenModule
        What the user's model becomes.
    """

    make: Callable[[Joint, Any], Posterior]
    initialisation_draw: int
    module: Callable[[Any, GivenModule], GivenModule] = lambda approximator, module: module


POSTERIORS: dict[type, Method] = {
    LaplacePosteriorApproximator: Method(LaplacePosterior, 4),
    MAPPosteriorApproximator: Method(lambda joint, approximator: MAPPosterior(joint), 3),
    SWAGPosteriorApproximator: Method(SWAGPosterior, 4),
    ADVIPosteriorApproximator: Method(ADVIPosterior, 3),
    DeepEnsemblePosteriorApproximator: Method(DeepEnsemblePosterior, 3),
    SGHMCPosteriorApproximator: Method(SGHMCPosterior, 3),
    CyclicalSGLDPosteriorApproximator: Method(CyclicalSGLDPosterior, 3),
    SNGPPosteriorApproximator: Method(SNGPPosterior, 3, with_random_features),
}


def method_of(approximator: Any) -> Method:
    """What there is for an approximator.

    Raises
    ------
    InvalidArgumentError
        If it is none that there is.
    """
    for kind, method in POSTERIORS.items():
        if isinstance(approximator, kind):
            return method
    raise InvalidArgumentError(
        f"posterior_approximator is {approximator!r}; give "
        f"{' or '.join(f'{kind.__name__}()' for kind in POSTERIORS)}"
    )
