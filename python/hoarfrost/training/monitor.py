"""What a training run records, and when it stops early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hoarfrost.checks import check_counts
from hoarfrost.errors import InvalidArgumentError

Metric = Callable[[np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a recorded value has not become smaller for a while, and go back to its best.

    Parameters
    ----------
    patience : int
        How many recorded values without an improvement are waited for, at least 1.
    monitor : str
        The value: "loss", "val_loss", a metric's name, or that after "val_". Smaller is better.
    min_delta : float
        By how much a value must be smaller to count as an improvement.
    """

    patience: int
    monitor: str = "val_loss"
    min_delta: float = 0.0


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
    """The state of early stopping during a run."""

    rule: EarlyStopping
    best: float = math.inf
    best_state: Any = None
    waited: int = 0

    def improved(self, value: float) -> bool:
        """Whether a new value is the best so far; a NaN never is."""
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


def compute_metrics(
    metrics: Sequence[Metric], names: Sequence[str], pairs: Sequence[tuple[Any, Any, int]]
) -> dict[str, float]:
    """Each metric over all points of an epoch at once, padding left out."""
    predictions = np.concatenate([np.asarray(p)[:size] for p, _, size in pairs])
    targets = np.concatenate([np.asarray(t)[:size] for _, t, size in pairs])
    if predictions.shape == (*targets.shape, 1):
        # One number a point: a metric that takes differences must not broadcast (N, 1) with (N,).
        targets = targets[..., None]
    return {n: float(m(predictions, targets)) for n, m in zip(names, metrics, strict=True)}
