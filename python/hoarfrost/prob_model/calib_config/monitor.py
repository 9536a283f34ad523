"""What is measured during calibration, and when it stops early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hoarfrost.checks import check_switch, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config import FitMonitor

# Called with predictions, uncertainties and targets.
CalibMetric = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class CalibMonitor:
    """What is measured and shown during calibration, and when it stops early.

    Parameters
    ----------
    metrics : tuple of callable (predictions, uncertainties, targets) -> number, optional
        Measured next to the loss after each epoch, and named in the status by their ``__name__``;
        ``hoarfrost.metric.expected_calibration_error`` is one for a classifier. They see the data
        points that count, one a row, also where outputs have positions.
    uncertainty_fn : callable (outputs) -> array, optional
        What `metrics` see as uncertainties: a module-level function of the calibrated outputs of S
        weight samples, shape ``(S, B, C)``, whose result has the leading axis B. By default the
        probabilities of a classifier's predictive, and the variance of a regressor's.
    early_stopping_patience : int
        Evaluations without improvement after which calibration stops; 0 never stops early, nor
        does a run without validation data, which is warned about.
    early_stopping_monitor : str
        Which validation measure is watched: "val_loss", or "val_" and the name of a metric.
    early_stopping_min_delta : float
        Least change that counts as an improvement.
    eval_every_n_epochs : int or None
        Epochs between evaluations on the validation data; 0 or None for no evaluation.
    disable_calibration_metrics_computation : bool
        Whether only the loss, and no metric, is computed on the calibration data.
    verbose : bool
        Whether progress is shown.
    mode : {"min", "max"}, optional
        Whether `early_stopping_monitor` is better the smaller or the larger it is; the default is
        that of `FitMonitor`.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    metrics: tuple[CalibMetric, ...] | None = None
    uncertainty_fn: Callable[[Any], Any] | None = None
    early_stopping_patience: int = 0
    early_stopping_monitor: str = "val_loss"
    early_stopping_min_delta: float = 0.0
    eval_every_n_epochs: int | None = 1
    disable_calibration_metrics_computation: bool = False
    verbose: bool = True
    mode: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        metrics: Any = self.metrics  # functions of three arguments here, of two there
        FitMonitor(
            metrics=metrics,
            early_stopping_patience=self.early_stopping_patience,
            early_stopping_monitor=self.early_stopping_monitor,
            early_stopping_min_delta=self.early_stopping_min_delta,
            eval_every_n_epochs=self.eval_every_n_epochs,
            verbose=self.verbose,
            mode=self.mode,
        )
        check_switch(
            "disable_calibration_metrics_computation", self.disable_calibration_metrics_computation
        )
        if self.uncertainty_fn is not None and not callable(self.uncertainty_fn):
            raise InvalidArgumentError(
                "uncertainty_fn must be a function of the calibrated outputs, or None, but it is "
                f"{shown(self.uncertainty_fn)}"
            )
        if self.uncertainty_fn is not None and not self.metrics:
            raise InvalidArgumentError(
                "uncertainty_fn was given without metrics, which alone would see what it returns; "
                "give metrics=(...,) too, or leave it out"
            )
