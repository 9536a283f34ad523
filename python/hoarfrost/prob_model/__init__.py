"""The Fortuna-shaped front: a model, how it is fitted, and what it predicts."""

from hoarfrost.prob_model.calib_config import (
    CalibCheckpointer,
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
)
from hoarfrost.prob_model.classification import ProbClassifier
from hoarfrost.prob_model.fit_config import (
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
)
from hoarfrost.prob_model.posterior import (
    ADVIPosteriorApproximator,
    CyclicalSGLDPosteriorApproximator,
    DeepEnsemblePosteriorApproximator,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    SGHMCPosteriorApproximator,
    SNGPPosteriorApproximator,
    SWAGPosteriorApproximator,
)
from hoarfrost.prob_model.regression import ProbRegressor
from hoarfrost.prob_model.state import JointState, PosteriorState

__all__ = [
    "ADVIPosteriorApproximator",
    "CalibCheckpointer",
    "CalibConfig",
    "CalibMonitor",
    "CalibOptimizer",
    "CalibProcessor",
    "CyclicalSGLDPosteriorApproximator",
    "DeepEnsemblePosteriorApproximator",
    "FitCallback",
    "FitCheckpointer",
    "FitConfig",
    "FitHyperparameters",
    "FitMonitor",
    "FitOptimizer",
    "FitProcessor",
    "JointState",
    "LaplacePosteriorApproximator",
    "MAPPosteriorApproximator",
    "PosteriorState",
    "ProbClassifier",
    "ProbRegressor",
    "SGHMCPosteriorApproximator",
    "SNGPPosteriorApproximator",
    "SWAGPosteriorApproximator",
]
