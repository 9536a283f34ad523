"""How a posterior is fitted: one file a part of the configuration."""

from hoarfrost.prob_model.fit_config.base import FitConfig
from hoarfrost.prob_model.fit_config.callback import FitCallback
from hoarfrost.prob_model.fit_config.checkpointer import FitCheckpointer
from hoarfrost.prob_model.fit_config.hyperparameters import FitHyperparameters
from hoarfrost.prob_model.fit_config.monitor import FitMonitor
from hoarfrost.prob_model.fit_config.optimizer import FitOptimizer
from hoarfrost.prob_model.fit_config.processor import FitProcessor

__all__ = [
    "FitCallback",
    "FitCheckpointer",
    "FitConfig",
    "FitHyperparameters",
    "FitMonitor",
    "FitOptimizer",
    "FitProcessor",
]
