"""How a probabilistic model is fitted: optimiser, epochs, what is frozen, watched and restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hoarfrost.prob_model.fit_config.arguments import invalid
from hoarfrost.prob_model.fit_config.callback import FitCallback
from hoarfrost.prob_model.fit_config.checkpointer import FitCheckpointer
from hoarfrost.prob_model.fit_config.hyperparameters import FitHyperparameters
from hoarfrost.prob_model.fit_config.monitor import FitMonitor
from hoarfrost.prob_model.fit_config.optimizer import FitOptimizer
from hoarfrost.prob_model.fit_config.processor import FitProcessor


@dataclass(frozen=True)
class FitConfig:
    """How a posterior is fitted.

    Parameters
    ----------
    optimizer : FitOptimizer
        Optimiser, number of epochs, and which parameters are frozen.
    checkpointer : FitCheckpointer
        Where the fit starts from.
    monitor : FitMonitor
        What is measured and shown.
    processor : FitProcessor
        Where and how it runs.
    hyperparameters : FitHyperparameters
        Further settings of the steps.
    callbacks : sequence of FitCallback, optional
        Called in their order while training goes on.

    Raises
    ------
    InvalidArgumentError
        If an argument is of another class.

    Examples
    --------
    >>> from hoarfrost.prob_model.fit_config import FitConfig, FitOptimizer
    >>> FitConfig(optimizer=FitOptimizer(n_epochs=2)).optimizer.n_epochs
    2
    """

    optimizer: FitOptimizer = field(default_factory=FitOptimizer)
    checkpointer: FitCheckpointer = field(default_factory=FitCheckpointer)
    monitor: FitMonitor = field(default_factory=FitMonitor)
    processor: FitProcessor = field(default_factory=FitProcessor)
    hyperparameters: FitHyperparameters = field(default_factory=FitHyperparameters)
    callbacks: Sequence[FitCallback] | None = None

    def __post_init__(self) -> None:
        parts: dict[str, type] = {
            "optimizer": FitOptimizer,
            "checkpointer": FitCheckpointer,
            "monitor": FitMonitor,
            "processor": FitProcessor,
            "hyperparameters": FitHyperparameters,
        }
        for name, expected in parts.items():
            if not isinstance(getattr(self, name), expected):
                raise invalid(name, f"a {expected.__name__}", getattr(self, name))
        callbacks = () if self.callbacks is None else self.callbacks
        if not isinstance(callbacks, (list, tuple)):
            raise invalid("callbacks", "a list of FitCallback objects", callbacks)
        for index, callback in enumerate(callbacks):
            if not isinstance(callback, FitCallback):
                raise invalid(f"callbacks[{index}]", "an object of a FitCallback class", callback)
