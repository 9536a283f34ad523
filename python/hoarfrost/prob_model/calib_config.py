"""How a model's outputs are calibrated: optimiser, epochs, what is watched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optax

from hoarfrost.checks import check_counts, check_switch
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config import FitMonitor, FitOptimizer, FitProcessor

# Called with predictions, uncertainties and targets.
CalibMetric = Callable[[Any, Any, Any], Any]


@functools.cache
def _default_method() -> optax.GradientTransformation:
    """The default optimiser: one object, since compiled steps are kept for each optimiser."""
    return optax.adam(1e-2)


@dataclass(frozen=True)
class CalibOptimizer:
    """What minimises the calibration loss, and for how long.

    Parameters
    ----------
    method : optax.GradientTransformation
        The optimiser; by default ``optax.adam(1e-2)``.
    n_epochs : int
        Number of passes over the calibration data.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    method: optax.GradientTransformation = field(default_factory=_default_method)
    n_epochs: int = 100

    def __post_init__(self) -> None:
        # The rules are those of training.
        FitOptimizer(method=self.method, n_epochs=self.n_epochs)


@dataclass(frozen=True)
class CalibCheckpointer:
    """Where calibration would write checkpoints to.

    Checkpoints on disk are not available in this version: the arguments that ask for them raise,
    rather than being ignored.

    Parameters
    ----------
    save_checkpoint_dir, restore_checkpoint_path : str or Path, optional
        Must be None in this version.
    save_every_n_steps : int, optional
        Must be None in this version.
    keep_top_n_checkpoints : int
        How many checkpoints a directory keeps; acts only together with `save_checkpoint_dir`.
    dump_state : bool
        Must be False in this version.

    Raises
    ------
    InvalidArgumentError
        If an argument asks for checkpoints on disk.
    """

    save_checkpoint_dir: str | Path | None = None
    restore_checkpoint_path: str | Path | None = None
    save_every_n_steps: int | None = None
    keep_top_n_checkpoints: int = 2
    dump_state: bool = False

    def __post_init__(self) -> None:
        check_counts(keep_top_n_checkpoints=self.keep_top_n_checkpoints)
        for name in (
            "save_checkpoint_dir",
            "restore_checkpoint_path",
            "save_every_n_steps",
            "dump_state",
        ):
            value = getattr(self, name)
            if value is not None and value is not False:
                raise InvalidArgumentError(
                    f"{name} is {value!r}, but checkpoints on disk are not available in this "
                    "version; to keep a calibration keep posterior.state.get().calib_params"
                )


@dataclass(frozen=True)
class CalibMonitor:
    """What is measured and shown during calibration, and when it stops early.

    Parameters
    ----------
    metrics : tuple of callable (predictions, uncertainties, targets) -> number, optional
        Measured next to the loss after each epoch, and named in the status by their ``__name__``;
        ``hoarfrost.metric.expected_calibration_error`` is one for a classifier.
    uncertainty_fn : callable (outputs) -> array, optional
        What `metrics` see as uncertainties: a module-level function of the calibrated outputs of S
        weight samples, shape ``(S, B, C)``, whose result has the leading axis B. By default the
        probabilities of a classifier's predictive, and the variance of a regressor's.
    early_stopping_patience : int
        Evaluations without improvement after which calibration stops; 0 never stops early.
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

    def __post_init__(self) -> None:
        metrics: Any = self.metrics  # functions of three arguments here, of two there
        FitMonitor(
            metrics=metrics,
            early_stopping_patience=self.early_stopping_patience,
            early_stopping_monitor=self.early_stopping_monitor,
            early_stopping_min_delta=self.early_stopping_min_delta,
            eval_every_n_epochs=self.eval_every_n_epochs,
            verbose=self.verbose,
        )
        check_switch(
            "disable_calibration_metrics_computation", self.disable_calibration_metrics_computation
        )
        if self.uncertainty_fn is not None and not callable(self.uncertainty_fn):
            raise InvalidArgumentError(
                "uncertainty_fn must be a function of the calibrated outputs, or None, but it is "
                f"{self.uncertainty_fn!r}"
            )
        if self.uncertainty_fn is not None and not self.metrics:
            raise InvalidArgumentError(
                "uncertainty_fn was given without metrics, which alone would see what it returns; "
                "give metrics=(...,) too, or leave it out"
            )


@dataclass(frozen=True)
class CalibProcessor:
    """Where and how calibration runs.

    Parameters
    ----------
    devices : {-1, 0}
        -1 for the accelerators that JAX finds, 0 for the CPU.
    disable_jit : bool
        Whether to run without compilation, to look for an error step by step.
    n_posterior_samples : int
        Number of weight samples whose mixture is the predictive that is calibrated.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    devices: int = -1
    disable_jit: bool = False
    n_posterior_samples: int = 30

    def __post_init__(self) -> None:
        FitProcessor(devices=self.devices, disable_jit=self.disable_jit)
        check_counts(n_posterior_samples=self.n_posterior_samples)


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
                    f"{name} must be a {expected.__name__}, but it is {value!r}"
                )
