"""The Fortuna-shaped front: a model, how it is fitted, and what it predicts."""

from hoarfrost.prob_model.approximator import (
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
)
from hoarfrost.prob_model.classifier import ProbClassifier
from hoarfrost.prob_model.fit_config import (
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
)
from hoarfrost.prob_model.state import JointState, PosteriorState

__all__ = [
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
]
