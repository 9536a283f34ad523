"""Posteriors behind Fortuna's interface: one folder a method."""

from hoarfrost.prob_model.posterior.advi import ADVIPosterior, ADVIPosteriorApproximator
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.deep_ensemble import (
    DeepEnsemblePosterior,
    DeepEnsemblePosteriorApproximator,
)
from hoarfrost.prob_model.posterior.laplace import (
    LaplacePosterior,
    LaplacePosteriorApproximator,
    LaplaceState,
)
from hoarfrost.prob_model.posterior.map import MAPPosterior, MAPPosteriorApproximator
from hoarfrost.prob_model.posterior.sgmcmc import (
    CyclicalSGLDPosterior,
    CyclicalSGLDPosteriorApproximator,
    SGHMCPosterior,
    SGHMCPosteriorApproximator,
)
from hoarfrost.prob_model.posterior.sngp import SNGPPosterior, SNGPPosteriorApproximator
from hoarfrost.prob_model.posterior.swag import SWAGPosterior, SWAGPosteriorApproximator
from hoarfrost.prob_model.posterior.weight_state import WeightState
from hoarfrost.prob_model.state import JointState, PosteriorState

__all__ = [
    "ADVIPosterior",
    "ADVIPosteriorApproximator",
    "CyclicalSGLDPosterior",
    "CyclicalSGLDPosteriorApproximator",
    "DeepEnsemblePosterior",
    "DeepEnsemblePosteriorApproximator",
    "JointState",
    "LaplacePosterior",
    "LaplacePosteriorApproximator",
    "LaplaceState",
    "MAPPosterior",
    "MAPPosteriorApproximator",
    "Posterior",
    "PosteriorState",
    "SGHMCPosterior",
    "SGHMCPosteriorApproximator",
    "SNGPPosterior",
    "SNGPPosteriorApproximator",
    "SWAGPosterior",
    "SWAGPosteriorApproximator",
    "WeightState",
]
