"""How a probabilistic model is fitted: optimiser, epochs, what is frozen, watched and restored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optax

from hoarfrost.checks import check_number, check_switch, is_whole
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Selector, is_selector

Metric = Callable[[Any, Any], Any]


class FitCallback:
    """Functions called while training goes on; override those that are needed.

    Each one takes the training state and returns the state to go on with.
    """

    def training_epoch_start(self, state: Any) -> Any:
        """Called before the first step of each epoch."""
        return state

    def training_epoch_end(self, state: Any) -> Any:
        """Called after the last step of each epoch."""
        return state

    def training_step_end(self, state: Any) -> Any:
        """Called after each step."""
        return state


@functools.cache
def _default_method() -> optax.GradientTransformation:
    """The default optimiser: one object, since compiled steps are kept for each optimiser."""
    return optax.adam(1e-3)


@dataclass(frozen=True)
class FitOptimizer:
    """What minimises the loss, for how long, and which parameters it leaves alone.

    Parameters
    ----------
    method : optax.GradientTransformation
        The optimiser; by default ``optax.adam(1e-3)``.
    n_epochs : int
        Number of passes over the training data.
    freeze_fun : callable (path, value) -> "trainable" or "frozen", optional
        Called with each leaf of the parameters and its path, a tuple such as
        ``("model", "params", "l3", "kernel")``; or any other form that `trainable` has in
        `hoarfrost.fit_laplace`. None: every parameter is trainable.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    method: optax.GradientTransformation = field(default_factory=_default_method)
    n_epochs: int = 100
    freeze_fun: Selector = None

    def __post_init__(self) -> None:
        if not (hasattr(self.method, "init") and hasattr(self.method, "update")):
            raise _invalid("method", "an optax optimiser such as optax.adam(1e-3)", self.method)
        _check_integer("n_epochs", self.n_epochs, least=1)
        if not is_selector(self.freeze_fun):
            raise _invalid(
                "freeze_fun",
                "a function (path, value) that returns 'trainable' or 'frozen', a compiled regular "
                "expression such as re.compile('head'), a list of names, or None",
                self.freeze_fun,
            )


@dataclass(frozen=True)
class FitCheckpointer:
    """Where a fit starts from.

    Writing checkpoints to disk and reading them is not available in this version: the arguments
    that ask for it raise, rather than being ignored.

    Parameters
    ----------
    save_checkpoint_dir : str or Path, optional
        Must be None in this version.
    restore_checkpoint_path : str or Path, optional
        Must be None in this version.
    start_from_current_state : bool
        Whether to start from the state that the model has, rather than from new parameters.
    save_every_n_steps : int, optional
        Must be None in this version.
    keep_top_n_checkpoints : int
        How many checkpoints a directory keeps; acts only together with `save_checkpoint_dir`.
    dump_state : bool
        Must be False in this version.

    Raises
    ------
    InvalidArgumentError
        If an argument asks for checkpoints on disk, or has a type that is not accepted.
    """

    save_checkpoint_dir: str | Path | None = None
    restore_checkpoint_path: str | Path | None = None
    start_from_current_state: bool = False
    save_every_n_steps: int | None = None
    keep_top_n_checkpoints: int = 2
    dump_state: bool = False

    def __post_init__(self) -> None:
        check_switch("start_from_current_state", self.start_from_current_state)
        check_switch("dump_state", self.dump_state)
        _check_integer("keep_top_n_checkpoints", self.keep_top_n_checkpoints, least=1)
        asked = {
            "save_checkpoint_dir": self.save_checkpoint_dir is not None,
            "restore_checkpoint_path": self.restore_checkpoint_path is not None,
            "save_every_n_steps": self.save_every_n_steps is not None,
            "dump_state": bool(self.dump_state),
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise InvalidArgumentError(
                    f"{name} is {getattr(self, name)!r}, but checkpoints on disk are not available "
                    "in this version; to go on from an earlier fit of the same model use "
                    "start_from_current_state=True, and to keep the parameters keep what "
                    "posterior.state.get().params returns"
                )


@dataclass(frozen=True)
class FitMonitor:
    """What is measured and shown while training goes on, and when it stops early.

    Parameters
    ----------
    metrics : tuple of callable (predictions, targets) -> number, optional
        Measured next to the loss, and named in the status by their ``__name__``.
    early_stopping_patience : int
        Evaluations without improvement after which training stops; 0 never stops early.
    early_stopping_monitor : str
        Which validation measure is watched: "val_loss", or "val_" and the name of a metric.
    early_stopping_min_delta : float
        Least change that counts as an improvement.
    eval_every_n_epochs : int or None
        Epochs between evaluations on the validation data; 0 or None for no evaluation.
    disable_training_metrics_computation : bool
        Whether only the loss, and no metric, is computed on the training data.
    verbose : bool
        Whether progress is shown.

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

    def __post_init__(self) -> None:
        metrics = () if self.metrics is None else self.metrics
        if not isinstance(metrics, tuple):
            raise _invalid("metrics", "a tuple of functions, such as (accuracy,)", metrics)
        for index, metric in enumerate(metrics):
            if not callable(metric):
                raise _invalid(f"metrics[{index}]", "a function (predictions, targets)", metric)
            if not hasattr(metric, "__name__"):
                raise _invalid(
                    f"metrics[{index}]",
                    "a function with a __name__, under which the status holds its values (give a "
                    "partial one by def)",
                    metric,
                )
        names = ["loss", *(metric.__name__ for metric in metrics)]
        if len(set(names)) < len(names):
            raise _invalid("metrics", "functions of different names, none of them 'loss'", names)
        _check_integer("early_stopping_patience", self.early_stopping_patience, least=0)
        check_number("early_stopping_min_delta", self.early_stopping_min_delta, positive=False)
        if self.eval_every_n_epochs is not None:
            _check_integer("eval_every_n_epochs", self.eval_every_n_epochs, least=0)
        check_switch(
            "disable_training_metrics_computation", self.disable_training_metrics_computation
        )
        check_switch("verbose", self.verbose)
        choices = [f"val_{name}" for name in names]
        if self.early_stopping_monitor not in choices:
            raise _invalid(
                "early_stopping_monitor",
                f"one of {', '.join(choices)}",
                self.early_stopping_monitor,
            )
        if self.early_stopping_patience and not self.eval_every_n_epochs:
            raise InvalidArgumentError(
                f"early_stopping_patience is {self.early_stopping_patience}, but with "
                f"eval_every_n_epochs={self.eval_every_n_epochs} there is no evaluation to stop "
                "by; give eval_every_n_epochs=1"
            )


@dataclass(frozen=True)
class FitProcessor:
    """Where and how training runs.

    Parameters
    ----------
    devices : {-1, 0}
        -1 for the accelerators that JAX finds, 0 for the CPU.
    disable_jit : bool
        Whether to run without compilation, to look for an error step by step.

    Raises
    ------
    InvalidArgumentError
        If an argument has a type or a value that is not accepted.
    """

    devices: int = -1
    disable_jit: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.devices, bool) or self.devices not in (-1, 0):
            raise _invalid("devices", "-1 (what JAX finds) or 0 (the CPU)", self.devices)
        check_switch("disable_jit", self.disable_jit)


@dataclass(frozen=True)
class FitHyperparameters:
    """Further settings of the steps.

    Parameters
    ----------
    max_grad_norm : float, optional
        Gradients are scaled down to this global norm where they exceed it.
    gradient_accumulation_steps : int, optional
        Number of batches whose gradients are averaged for one step of the optimiser.

    Raises
    ------
    InvalidArgumentError
        If an argument is not positive.
    """

    max_grad_norm: float | None = None
    gradient_accumulation_steps: int | None = None

    def __post_init__(self) -> None:
        if self.max_grad_norm is not None:
            check_number(
                "max_grad_norm", self.max_grad_norm, positive=True, hint="; None clips nothing"
            )
        if self.gradient_accumulation_steps is not None:
            _check_integer("gradient_accumulation_steps", self.gradient_accumulation_steps, least=1)


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
                raise _invalid(name, f"a {expected.__name__}", getattr(self, name))
        callbacks = () if self.callbacks is None else self.callbacks
        if not isinstance(callbacks, (list, tuple)):
            raise _invalid("callbacks", "a list of FitCallback objects", callbacks)
        for index, callback in enumerate(callbacks):
            if not isinstance(callback, FitCallback):
                raise _invalid(f"callbacks[{index}]", "an object of a FitCallback class", callback)


def _invalid(name: str, expected: str, value: Any) -> InvalidArgumentError:
    return InvalidArgumentError(f"{name} must be {expected}, but it is {value!r}")


def _check_integer(name: str, value: Any, least: int) -> None:
    if not is_whole(value, least):
        raise _invalid(name, f"an integer of at least {least}", value)
