"""How outputs are calibrated: one file a part of the configuration."""

from hoarfrost.prob_model.calib_config.base import CalibConfig
from hoarfrost.prob_model.calib_config.checkpointer import CalibCheckpointer
from hoarfrost.prob_model.calib_config.monitor import CalibMonitor
from hoarfrost.prob_model.calib_config.optimizer import CalibOptimizer
from hoarfrost.prob_model.calib_config.processor import CalibProcessor

__all__ = [
    "CalibCheckpointer",
    "CalibConfig",
    "CalibMonitor",
    "CalibOptimizer",
    "CalibProcessor",
]
