"""Training to the maximum a posteriori (MAP) by any optax optimiser."""

from hoarfrost.training.fit import TrainingResult, fit_map
from hoarfrost.training.monitor import EarlyStopping
from hoarfrost.training.state import Callback, TrainState

__all__ = ["Callback", "EarlyStopping", "TrainState", "TrainingResult", "fit_map"]
