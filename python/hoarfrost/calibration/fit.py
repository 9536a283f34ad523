"""Fitting a calibrator to outputs that are known: the network itself is not run again."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hoarfrost.calibration.calibrator import OutputCalibrator
from hoarfrost.checks import shown
from hoarfrost.data.batch import INPUTS, TARGETS, checked_batch, native
from hoarfrost.data.numbers import check_numbers
from hoarfrost.dtypes import in_float64, is_finite, is_real
from hoarfrost.errors import DataError, InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.fork import check_not_forked
from hoarfrost.progress import progress_bar
from hoarfrost.training.monitor import (
    EarlyStopping,
    Watch,
    check_early_stopping,
    metric_value,
    recorded_values,
)
from hoarfrost.training.progress import Resumption, Standing, UnderWay, Write, kinds_of, resumed
from hoarfrost.training.state import TrainState
from hoarfrost.types import Tree

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class CalibrationStatistics:
    """What is computed of the calibrated outputs of S samples and B points, ``(S, B, C)``.

    Every attribute is a module-level function, so that it can be static in a compiled program.

    Attributes
    ----------
    log_prob : callable (outputs, targets)
        Log-probability of the targets under the mixture of the samples, shape ``(B,)``.
    predict, uncertainty : callable (outputs)
        What metrics see, each with the leading axis B.
    """

    log_prob: Callable[[jax.Array, jax.Array], jax.Array]
    predict: Callable[[jax.Array], jax.Array]
    uncertainty: Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class CalibrationResult:
    """A fitted calibrator's `variables`, and the `status`: one value an epoch under each name.

    `not_resumed` says what of a checkpoint could not be used.
    """

    variables: Tree
    status: dict[str, np.ndarray]
    not_resumed: tuple[str, ...] = ()


class OutputBatch(NamedTuple):
    """Outputs under S samples and targets of B points, padded to a common B; `size` are real."""

    outputs: Any
    targets: Any
    size: int


def fit_calibrator(
    calibrator: OutputCalibrator,
    variables: Tree,
    statistics: CalibrationStatistics,
    batches: Sequence[tuple[np.ndarray, np.ndarray]] | Sequence[OutputBatch],
    *,
    optimizer: optax.GradientTransformation,
    n_epochs: int,
    val_batches: Sequence[tuple[np.ndarray, np.ndarray]] | Sequence[OutputBatch] | None = None,
    metrics: Sequence[Metric] = (),
    calibration_metrics: bool = True,
    early_stopping: EarlyStopping | None = None,
    eval_every_n_epochs: int = 1,
    verbose: bool = True,
    resume: Resumption | None = None,
    write_checkpoint: Write | None = None,
    save_every_n_steps: int | None = None,
) -> CalibrationResult:
    """Minimise the mean negative log-probability of targets under the calibrated predictive.

    Parameters
    ----------
    calibrator, variables
        What is fitted, and from where.
    statistics : CalibrationStatistics
        The predictive.
    batches, val_batches : sequence of (outputs, targets)
        Outputs ``(S, B, C)`` before calibration. One step of the optimiser a batch and epoch.
    optimizer : optax.GradientTransformation
        Any optimiser.
    n_epochs : int
        Passes over `batches`.
    metrics : sequence of callable (predictions, uncertainties, targets) -> number
        Called on the host with the arrays of all points.
    calibration_metrics : bool
        Whether they are computed for `batches` too.
    early_stopping : EarlyStopping, optional
        When to stop; the best variables are then given back.
    eval_every_n_epochs : int
        Epochs between two evaluations on `val_batches`.
    verbose : bool
        Whether there is a progress bar.
    resume : Resumption, optional
        How far `variables` had come, as of `hoarfrost.training.fit_map`.
    write_checkpoint : callable (state, progress, finished), optional
        Called after every `save_every_n_steps` steps, and when all is done.
    save_every_n_steps : int, optional
        None: only when all is done.

    Raises
    ------
    InvalidArgumentError
        If early stopping watches what is not recorded.
    NonFiniteError
        If the loss or the variables become NaN or infinite.
    """
    check_not_forked("calibration")
    names = [metric.__name__ for metric in metrics]
    if early_stopping is not None:
        recorded = recorded_values(names, calibration_metrics, val_batches is not None)
        check_early_stopping(early_stopping, recorded)
    train = _padded(batches, "batches")
    val = None if val_batches is None else _padded(val_batches, "val_batches")
    known = (calibrator, statistics)
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    state = TrainState(variables, None, {}, optimizer.init(variables), jnp.zeros((), jnp.int32))
    watch = None if early_stopping is None else Watch(early_stopping)
    kinds = kinds_of(state.opt_state)
    standing = Standing(write_checkpoint, save_every_n_steps, None, kinds, watch=watch)
    under_way: UnderWay | None = None
    not_resumed: list[str] = []
    if resume is not None:
        state, under_way, not_resumed = resumed(resume, state, standing)
        if under_way is not None and under_way.batches > len(train):
            raise DataError(
                f"the checkpoint was written after {under_way.batches} batches of an epoch, and "
                f"there are {len(train)} now; give the data of that run"
            )
        if not_resumed:
            warnings.warn(
                f"not all of the checkpoint could be used: {'; '.join(not_resumed)}",
                UserWarning,
                stacklevel=2,
            )
    history, first = standing.history, standing.epochs
    last = first if watch is not None and watch.out_of_patience else first + n_epochs

    if metrics:
        _check_statistics(calibrator, statistics, variables, [*train, *(val or [])][0])

    def at_step() -> TrainState:
        return state.replace(step=np.int32(standing.steps))

    def measure(prefix: str, over: Sequence[OutputBatch]) -> None:
        # Each in its place as it comes: all are there only once.
        whole: list[np.ndarray] = []
        start, total = 0, sum(batch.size for batch in over)
        for batch in over:
            stop = start + batch.size
            found = _predictions(*known, state.params, batch.outputs)
            parts = [np.asarray(part)[: batch.size] for part in found]
            whole = whole or [np.empty((total, *x.shape[1:]), x.dtype) for x in parts]
            for all_, part in zip(whole, parts, strict=True):
                all_[start:stop] = part
            start = stop
        predictions, uncertainties = whole
        targets = np.concatenate([b.targets[: b.size] for b in over])
        for name, metric in zip(names, metrics, strict=True):
            value = metric(predictions, uncertainties, targets)
            history.add(prefix + name, metric_value(name, value))

    with progress_bar(total=n_epochs, enabled=verbose, description="Calibration") as bar:
        for epoch in range(first, last):
            losses = [] if under_way is None else list(np.asarray(under_way.totals))
            under_way = None
            for index, batch in enumerate(train):
                if index < len(losses):
                    continue
                with in_float64():
                    loss, value, gradient = _loss_and_gradient(*known, dtype, state.params, batch)
                params, opt_state = _step(
                    *known, optimizer, state.params, state.opt_state, batch, value, gradient
                )
                state = state.replace(params=params, opt_state=opt_state)
                losses.append(loss)
                if standing.count_step() and is_finite(state.params):
                    totals = np.asarray(jax.device_get(losses))
                    points = sum(done.size for done in train[: index + 1])
                    standing.save(at_step(), UnderWay(index + 1, points, totals))
            standing.epochs = epoch + 1
            history.add("loss", _mean(losses, train))
            sound = is_finite(state.params)
            if not sound or not np.isfinite(history.values["loss"][-1]):
                raise NonFiniteError(
                    f"the calibration became NaN or infinite in epoch {epoch + 1}; the model "
                    "keeps the calibration that it had. Try a smaller learning rate"
                )
            if names and calibration_metrics:
                measure("", train)
            evaluates = val is not None and (epoch + 1) % eval_every_n_epochs == 0
            if val is not None and evaluates:
                with in_float64():
                    val_losses = [_loss(*known, state.params, b) for b in val]
                history.add("val_loss", _mean(val_losses, val))
                if names:
                    measure("val_", val)
            bar.set_description(f"Calibration: {epoch + 1} | {history.last()}", refresh=False)
            bar.update()
            if watch is None or (watch.rule.monitor.startswith("val_") and not evaluates):
                continue
            if watch.improved(float(history.values[watch.rule.monitor][-1])):
                watch.best_state = at_step().replace(opt_state=None)
            if watch.out_of_patience:
                break
    if write_checkpoint is not None:
        write_checkpoint(at_step(), standing.progress(), True)
    if watch is not None and watch.best_state is not None:
        state = watch.best_state
    return CalibrationResult(state.params, history.status(), tuple(not_resumed))


def padded_outputs(outputs: np.ndarray, targets: np.ndarray, rows: int) -> OutputBatch:
    """Outputs ``(S, B, C)`` and B targets with so many points, the last one repeated."""
    size = len(targets)
    if size < rows:
        taken = np.minimum(np.arange(rows), size - 1)
        outputs, targets = outputs[:, taken], targets[taken]
    return OutputBatch(outputs, targets, size)


def _padded(
    batches: Sequence[tuple[np.ndarray, np.ndarray]] | Sequence[OutputBatch], argument: str
) -> list[OutputBatch]:
    """Batches with as many points as the largest, the last point repeated: one program for all.

    Raises
    ------
    DataError, ShapeError, InvalidArgumentError
        If there is none, or one is no pair of outputs ``(S, B, C)`` and B targets, real numbers.
    """
    if not len(batches):
        raise DataError(f"{argument} are empty; give at least one pair (outputs, targets)")
    if all(isinstance(batch, OutputBatch) for batch in batches):
        return list(batches)  # type: ignore[arg-type]
    pairs = [_checked(batch, f"batch {i} of {argument}") for i, batch in enumerate(batches)]
    rows = max(len(targets) for _, targets in pairs)
    return [padded_outputs(outputs, targets, rows) for outputs, targets in pairs]


def _checked(batch: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    # Both parts have an axis 0, though not the same one.
    outputs = native(checked_batch(batch[0], INPUTS, where))
    targets = native(checked_batch(batch[1], TARGETS, where))
    check_numbers(outputs, "outputs", where)
    check_numbers(targets, "targets", where)
    shape = np.shape(outputs)
    if len(shape) != 3 or shape[1] != len(targets) or 0 in shape:
        raise ShapeError(
            f"outputs of {where} have shape {shape}, and there are {len(targets)} targets; give "
            "(samples, points, outputs), at least one of each, and a target for each point"
        )
    return np.asarray(outputs), np.asarray(targets)


def _mean(losses: Sequence[Any], batches: Sequence[OutputBatch]) -> float:
    """Mean over points of losses that are means over the points of their batches."""
    sizes = [batch.size for batch in batches]
    return float(np.average(np.asarray(jax.device_get(losses), np.float64), weights=sizes))


def _mean_loss(
    calibrator: OutputCalibrator,
    statistics: CalibrationStatistics,
    variables: Tree,
    batch: OutputBatch,
) -> jax.Array:
    log_prob = statistics.log_prob(calibrator(variables, batch.outputs), batch.targets)
    real = jnp.arange(log_prob.shape[0]) < batch.size
    return -jnp.sum(jnp.where(real, log_prob, 0)) / jnp.asarray(batch.size, log_prob.dtype)


# Called within `in_float64`, where densities are computed in it; gradients are in the dtype of the
# variables.
_loss = jax.jit(_mean_loss, static_argnums=(0, 1))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _loss_and_gradient(
    calibrator: OutputCalibrator,
    statistics: CalibrationStatistics,
    dtype: Any,
    variables: Tree,
    batch: OutputBatch,
) -> tuple[jax.Array, jax.Array, Tree]:
    """The loss, the same in the dtype in which optimisers work, and its gradient."""
    found = jax.value_and_grad(_mean_loss, argnums=2)(calibrator, statistics, variables, batch)
    loss, gradient = found
    return loss, loss.astype(dtype), gradient


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    calibrator: OutputCalibrator,
    statistics: CalibrationStatistics,
    optimizer: optax.GradientTransformation,
    variables: Tree,
    opt_state: Tree,
    batch: OutputBatch,
    value: jax.Array,
    gradient: Tree,
) -> tuple[Tree, Tree]:
    def loss_of(candidate: Tree) -> jax.Array:
        return _mean_loss(calibrator, statistics, candidate, batch)

    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient, opt_state, variables, value=value, grad=gradient, value_fn=loss_of
    )
    return optax.apply_updates(variables, updates), opt_state


def _check_statistics(
    calibrator: OutputCalibrator,
    statistics: CalibrationStatistics,
    variables: Tree,
    batch: OutputBatch,
) -> None:
    """Raise `InvalidArgumentError` unless `uncertainty` gives real numbers, some for each point."""
    calibrated = jax.eval_shape(calibrator, variables, batch.outputs)
    found: list[Any] = []

    def uncertainty(outputs: jax.Array) -> None:
        found.append(statistics.uncertainty(outputs))

    jax.eval_shape(uncertainty, calibrated)
    points = calibrated.shape[1]
    shape, dtype = getattr(found[0], "shape", ()), getattr(found[0], "dtype", None)
    if dtype is None or not is_real(dtype) or shape[:1] != (points,):
        given = f"an array of shape {shape}" if dtype is not None else shown(found[0])
        raise InvalidArgumentError(
            f"uncertainty_fn gives {given} for outputs of shape {calibrated.shape}; it must return "
            f"an array of real numbers, one for each of {points} points"
        )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _predictions(
    calibrator: OutputCalibrator,
    statistics: CalibrationStatistics,
    variables: Tree,
    outputs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    calibrated = calibrator(variables, outputs)
    return statistics.predict(calibrated), statistics.uncertainty(calibrated)
