"""What is measured while training goes on, and when it stops early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hoarfrost.checks import check_number, check_switch
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config.arguments import check_least, invalid
from hoarfrost.training.monitor import resolve_mode

Metric = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class FitMonitor:
    """What is measured and shown while training goes on, and when it stops early.

    Parameters
    ----------
    metrics : tuple of callable (predictions, targets) -> number, optional
        Measured next to the loss, and named in the status by their ``__name__``. They see the data
        points that count, one a row, also where outputs have positions.
    early_stopping_patience : int
        Evaluations without improvement after which training stops; 0 never stops early, nor does a
        run without validation data, which is warned about.
    early_stopping_monitor : str
        Which validation measure is watched: "val_loss", or "val_" and the name of a metric. The
        model that is kept is the one of its best value.
    early_stopping_min_delta : float
        Least change that counts as an improvement.
    eval_every_n_epochs : int or None
        Epochs between evaluations on the validation data; 0 or None for no evaluation.
    disable_training_metrics_computation : bool
        Whether only the loss, and no metric, is computed on the training data.
    verbose : bool
        Whether progress is shown.
    mode : {"min", "max"}, optional
        Whether `early_stopping_monitor` is better the smaller or the larger it is. By default as is
        known by the name: "max" for accuracy, accuracy_score, coverage, picp and
        prediction_interval_coverage_probability; "min" for the loss, the other scores of
        `hoarfrost.metric`, and every other function.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    metrics: tuple[Metric, ...] | None = None
    early_stopping_patience: int = 0
    early_stopping_monitor: str = "val_loss"
    early_stopping_min_delta: float = 0.0
    eval_every_n_epochs: int | None = 1
    disable_training_metrics_computation: bool = False
    verbose: bool = True
    mode: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        metrics = () if self.metrics is None else self.metrics
        if not isinstance(metrics, tuple):
            raise invalid("metrics", "a tuple of functions, such as (accuracy,)", metrics)
        for index, metric in enumerate(metrics):
            if not callable(metric):
                raise invalid(f"metrics[{index}]", "a function (predictions, targets)", metric)
            if not isinstance(getattr(metric, "__name__", None), str):
                raise invalid(
                    f"metrics[{index}]",
                    "a function with a __name__, under which the status holds its values (give a "
                    "partial one by def)",
                    metric,
                )
        names = ["loss", *(metric.__name__ for metric in metrics)]
        if len(set(names)) < len(names):
            raise invalid("metrics", "functions of different names, none of them 'loss'", names)
        check_least("early_stopping_patience", self.early_stopping_patience, least=0)
        check_number("early_stopping_min_delta", self.early_stopping_min_delta, positive=False)
        if self.eval_every_n_epochs is not None:
            check_least("eval_every_n_epochs", self.eval_every_n_epochs, least=0)
        check_switch(
            "disable_training_metrics_computation", self.disable_training_metrics_computation
        )
        check_switch("verbose", self.verbose)
        choices = [f"val_{name}" for name in names]
        named = isinstance(self.early_stopping_monitor, str)
        if not named or self.early_stopping_monitor not in choices:
            raise invalid(
                "early_stopping_monitor",
                f"one of {', '.join(choices)}",
                self.early_stopping_monitor,
            )
        resolve_mode(self.early_stopping_monitor, self.mode)
        if self.early_stopping_patience and not self.eval_every_n_epochs:
            raise InvalidArgumentError(
                f"early_stopping_patience is {self.early_stopping_patience}, but with "
                f"eval_every_n_epochs={self.eval_every_n_epochs} there is no evaluation to stop "
                "by; give eval_every_n_epochs=1"
            )
