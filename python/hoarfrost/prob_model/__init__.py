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
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
)
from hoarfrost.prob_model.regression import ProbRegressor
from hoarfrost.prob_model.state import JointState, PosteriorState

__all__ = [
    "CalibCheckpointer",
    "CalibConfig",
    "CalibMonitor",
    "CalibOptimizer",
    "CalibProcessor",
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
]
