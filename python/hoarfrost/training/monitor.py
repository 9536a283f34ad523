"""What a training run records, and when it stops early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hoarfrost.checks import check_counts, shown
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.dtypes import is_real
from hoarfrost.errors import InvalidArgumentError

# Predictions of a batch, and the batch without its inputs.
Pair = tuple[Any, CheckedBatch]

Metric = Callable[[np.ndarray, np.ndarray], Any]

# Scores whose direction is known by their name; a coverage is watched for being too small.
_LARGER_IS_BETTER = (
    "accuracy",
    "accuracy_score",
    "coverage",
    "picp",
    "prediction_interval_coverage_probability",
)
_SMALLER_IS_BETTER = (
    "loss",
    "brier_score",
    "ece",
    "expected_calibration_error",
    "maximum_calibration_error",
    "mce",
    "negative_log_likelihood",
    "nll",
    "rmse",
    "root_mean_squared_error",
)
_MODES = {
    **dict.fromkeys(_LARGER_IS_BETTER, "max"),
    **dict.fromkeys(_SMALLER_IS_BETTER, "min"),
}


def resolve_mode(monitor: str, mode: str | None) -> str:
    """Whether the value of this name is better the smaller ("min") or the larger ("max").

    Parameters
    ----------
    monitor : str
        "loss", a metric's name, or that after "val_".
    mode : {"min", "max"} or None
        None: as is known of the losses and the scores of `hoarfrost.metric`; of any other value
        "min".

    Raises
    ------
    InvalidArgumentError
        If `mode` is none of these, or the opposite of what is known.
    """
    if mode is not None and (not isinstance(mode, str) or mode not in ("min", "max")):
        raise InvalidArgumentError(f"mode must be 'min', 'max' or None, but it is {shown(mode)}")
    known = _MODES.get(monitor.removeprefix("val_"))
    if known is not None and mode not in (None, known):
        better = "larger" if known == "max" else "smaller"
        raise InvalidArgumentError(
            f"mode is {mode!r}, but {monitor} is better the {better} it is; leave mode out, or "
            "give a function of your own another name"
        )
    return mode or known or "min"


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a recorded value has not become better for a while, and go back to its best.

    Parameters
    ----------
    patience : int
        How many recorded values without an improvement are waited for, at least 1.
    monitor : str
        The value: "loss", "val_loss", a metric's name, or that after "val_".
    min_delta : float
        By how much a value must be better to count as an improvement.
    mode : {"min", "max"}, optional
        Whether smaller or larger is better; by default as `resolve_mode` says.
    """

    patience: int
    monitor: str = "val_loss"
    min_delta: float = 0.0
    mode: str | None = None


@dataclass
class History:
    """Values recorded epoch by epoch, under the names that the status shows."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        """Record a value."""
        self.values.setdefault(name, []).append(value)

    def last(self) -> str:
        """The last loss and its companions, as the progress bar shows them."""
        return " | ".join(f"{name}: {values[-1]:.5f}" for name, values in self.values.items())

    def status(self) -> dict[str, np.ndarray]:
        """Arrays of shape ``(n_epochs,)``, for validation one value an evaluated epoch."""
        return {name: np.asarray(values) for name, values in self.values.items()}


@dataclass
class Watch:
    """The state of early stopping during a run; `best` is negative where larger is better."""

    rule: EarlyStopping
    best: float = math.inf
    best_state: Any = None
    waited: int = 0

    def improved(self, value: float) -> bool:
        """Whether a new value is the best so far; a NaN never is."""
        if resolve_mode(self.rule.monitor, self.rule.mode) == "max":
            value = -value
        if value < self.best - self.rule.min_delta:
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    @property
    def out_of_patience(self) -> bool:
        """Whether it is time to stop."""
        return self.waited >= self.rule.patience


def metric_names(metrics: Iterable[Metric]) -> list[str]:
    """Names of user metrics, which must differ from each other and from the losses.

    Raises
    ------
    InvalidArgumentError
        If a metric is not callable, or a name comes twice.
    """
    names: list[str] = []
    for metric in metrics:
        if not callable(metric):
            raise InvalidArgumentError(
                f"metrics hold {metric!r}; give functions (predictions, targets) -> number"
            )
        name = getattr(metric, "__name__", type(metric).__name__)
        if name in (*names, "loss", "val_loss"):
            raise InvalidArgumentError(
                f"metrics hold two values called {name!r}; give each function a __name__ of its own"
            )
        names.append(name)
    return names


def recorded_values(names: Sequence[str], training_metrics: bool, validates: bool) -> list[str]:
    """Names of all values that a run with these metrics records."""
    recorded = ["loss", *(names if training_metrics else [])]
    return recorded + ([f"val_{name}" for name in ["loss", *names]] if validates else [])


def check_early_stopping(rule: EarlyStopping, available: Sequence[str]) -> None:
    """Raise `InvalidArgumentError` unless the rule is sound and watches a recorded value."""
    check_counts(early_stopping_patience=rule.patience)
    if not isinstance(rule.min_delta, int | float) or not 0 <= rule.min_delta < math.inf:
        raise InvalidArgumentError(
            f"early_stopping_min_delta is {rule.min_delta!r}; give a number that is not negative"
        )
    if rule.monitor not in available:
        raise InvalidArgumentError(
            f"early_stopping_monitor is {rule.monitor!r}, which this run does not record; it "
            f"records {', '.join(available)} (values called val_ need a val_data_loader)"
        )
    resolve_mode(rule.monitor, rule.mode)


def compute_metrics(
    metrics: Sequence[Metric], names: Sequence[str], pairs: Sequence[Pair]
) -> dict[str, float]:
    """Each metric over all points of an epoch at once, those that count, padding left out.

    With the predictions of a batch comes the batch itself, its targets in rows.
    """
    predictions = np.concatenate([counted_rows(*pair) for pair in pairs])
    targets = np.concatenate([counted_alone(batch).targets for _, batch in pairs])
    if predictions.shape == (*targets.shape, 1):
        # One number a point: a metric that takes differences must not broadcast (N, 1) with (N,).
        targets = targets[..., None]
    return {
        name: metric_value(name, metric(predictions, targets))
        for name, metric in zip(names, metrics, strict=True)
    }


def counted_rows(predictions: Any, batch: CheckedBatch) -> np.ndarray:
    """Predictions of the points of a batch that count, padding left out."""
    rows = np.asarray(predictions)[: len(batch.targets)]
    return rows if batch.mask is None else rows[batch.mask]


def counted_alone(batch: CheckedBatch) -> CheckedBatch:
    """A batch with the targets that count alone, and without its inputs."""
    targets = np.asarray(batch.targets)
    targets = targets if batch.mask is None else targets[batch.mask]
    return replace(batch, inputs=None, targets=targets, mask=None)


def metric_value(name: str, value: Any) -> float:
    """What a metric gives, as the status holds it.

    Raises
    ------
    InvalidArgumentError
        If it is no number.
    """
    array = None if isinstance(value, str | bytes | type) else np.asarray(value)
    if array is None or array.size != 1 or not is_real(array.dtype):
        raise InvalidArgumentError(
            f"the metric {name!r} gives {shown(value)}; it must return one number"
        )
    return float(array.reshape(()))
