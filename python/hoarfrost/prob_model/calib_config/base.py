"""How a model's outputs are calibrated: optimiser, epochs, what is watched."""

from __future__ import annotations

from dataclasses import dataclass, field

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.calib_config.checkpointer import CalibCheckpointer
from hoarfrost.prob_model.calib_config.monitor import CalibMonitor
from hoarfrost.prob_model.calib_config.optimizer import CalibOptimizer
from hoarfrost.prob_model.calib_config.processor import CalibProcessor


@dataclass(frozen=True)
class CalibConfig:
    """How a model's outputs are calibrated.

    Parameters
    ----------
    optimizer : CalibOptimizer
        Optimiser and number of epochs.
    checkpointer : CalibCheckpointer
        Checkpoints.
    monitor : CalibMonitor
        What is measured and shown.
    processor : CalibProcessor
        Where and how it runs.

    Raises
    ------
    InvalidArgumentError
        If an argument is of another class.
    """

    optimizer: CalibOptimizer = field(default_factory=CalibOptimizer)
    checkpointer: CalibCheckpointer = field(default_factory=CalibCheckpointer)
    monitor: CalibMonitor = field(default_factory=CalibMonitor)
    processor: CalibProcessor = field(default_factory=CalibProcessor)

    def __post_init__(self) -> None:
        parts: dict[str, type] = {
            "optimizer": CalibOptimizer,
            "checkpointer": CalibCheckpointer,
            "monitor": CalibMonitor,
            "processor": CalibProcessor,
        }
        for name, expected in parts.items():
            value = getattr(self, name)
            if not isinstance(value, expected):
                raise InvalidArgumentError(
                    f"{name} must be a {expected.__name__}, but it is {shown(value)}"
                )
