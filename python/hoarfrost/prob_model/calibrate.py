"""Calibration of a fitted model as a `CalibConfig` describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hoarfrost.calibration import OutputCalibrator, fit_calibrator
from hoarfrost.calibration.fit import OutputBatch, padded_outputs
from hoarfrost.data import DataLoader
from hoarfrost.data.checked import CheckedBatch, check_finite_inputs, data_batches
from hoarfrost.devices import choose_devices
from hoarfrost.errors import MemoryLimitError
from hoarfrost.freezing import Subset
from hoarfrost.likelihood.points import checked_rows, num_counted, rows_of
from hoarfrost.memory import available_bytes
from hoarfrost.predictive import classes
from hoarfrost.predictive.weight_samples import WeightSamples, output_shape, over_samples
from hoarfrost.prob_model.calib_config import CalibConfig
from hoarfrost.prob_model.calibration_checkpoints import digest_of, prepared, restored, writer
from hoarfrost.prob_model.fit_config import FitProcessor
from hoarfrost.prob_model.likelihood import ModelLikelihood
from hoarfrost.prob_model.likelihood.calibrated import KEY
from hoarfrost.prob_model.likelihood.statistics import at_positions
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.map_fit import Status, early_stopping_of, on_processor
from hoarfrost.prob_model.posterior.saved import keep_on_disk, save_posterior
from hoarfrost.training.first_batch import check_held_out, check_some_count, count_points


def calibrate(
    posterior: Posterior,
    likelihood: ModelLikelihood,
    calibrator: OutputCalibrator,
    calib_loader: DataLoader,
    val_loader: DataLoader | None,
    config: CalibConfig,
    key: jax.Array,
) -> Status:
    """Fit the calibrator to the predictive, put its parameters into the state; what was recorded.

    The weights are drawn once, and the network is run once over the calibration data.

    Raises
    ------
    MemoryLimitError
        If the outputs of all samples at all points do not fit.
    InvalidArgumentError, ShapeError, NonFiniteError
        If a batch cannot be used, or the loss stops being finite.
    """
    monitor, statistics = config.monitor, likelihood.calibration_statistics
    if monitor.uncertainty_fn is not None:
        statistics = dataclasses.replace(statistics, uncertainty=monitor.uncertainty_fn)
    checkpointer = config.checkpointer
    before = restored(checkpointer)
    if before is not None:
        key = before.key
    folder = prepared(checkpointer)
    samples_key, init_key = jax.random.split(key)
    every = monitor.eval_every_n_epochs
    processor = FitProcessor(config.processor.devices, config.processor.disable_jit)
    loaders = {"calib_data_loader": calib_loader}
    if val_loader is not None and every:
        loaders["val_data_loader"] = val_loader
    with on_processor(processor) as devices:
        samples = posterior.weight_samples(config.processor.n_posterior_samples, samples_key)
        samples = dataclasses.replace(samples, devices=devices).placed()
        known = samples, likelihood
        # All data are looked at before the network is run on any of them.
        most = {name: _check(*known, loader, name) for name, loader in loaders.items()}
        outputs = {
            name: _outputs(*known, loader, name, most[name]) for name, loader in loaders.items()
        }
        batches, val_batches = outputs["calib_data_loader"], outputs.get("val_data_loader")
        variables = calibrator.init(batches[0].outputs.shape[-1], init_key)
        used = folder is not None or before is not None
        data = digest_of(batches) if used else ""
        if before is not None:
            variables = before.variables_like(variables, data)
        written: list[Path] = []
        result = fit_calibrator(
            calibrator,
            variables,
            statistics,
            batches,
            optimizer=config.optimizer.method,
            n_epochs=config.optimizer.n_epochs,
            val_batches=val_batches,
            metrics=monitor.metrics or (),
            calibration_metrics=not monitor.disable_calibration_metrics_computation,
            early_stopping=early_stopping_of(monitor, val_loader),
            eval_every_n_epochs=every or 1,
            verbose=monitor.verbose,
            resume=None if before is None else before.resumption,
            write_checkpoint=writer(folder, checkpointer, key, data, written),
            save_every_n_steps=checkpointer.save_every_n_steps,
        )
    posterior.state.update(calib_params={KEY: result.variables}, calib_mutable=None)
    if checkpointer.dump_state:
        place = save_posterior(
            posterior.state, folder, checkpointer.keep_top_n_checkpoints, posterior.storage
        )
        keep_on_disk(posterior.state, posterior.joint, place, posterior.storage)
    status: Status = dict(result.status)
    if before is not None:
        status["start"] = before.told(result.not_resumed)
    if written:
        status["checkpoint"] = str(written[0])
    return status


def check_calibration(
    subset: Subset,
    likelihood: ModelLikelihood,
    calibrator: OutputCalibrator,
    calib_loader: DataLoader,
    val_loader: DataLoader | None,
    config: CalibConfig,
    num_samples: int,
) -> None:
    """Find what `calibrate` could not use, from shapes and the numbers of the data alone.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError, DataError
        If the calibrator does not fit the network's outputs, or a batch cannot be used.
    MemoryLimitError
        If the outputs of `num_samples` weight samples at all points do not fit.
    """
    choose_devices(config.processor.devices)
    known, name = (subset, likelihood.output), "calib_data_loader"
    ignored = likelihood.ignored_label
    points = check_held_out(*known, calib_loader, name, ignored, whole=True)
    if val_loader is not None and config.monitor.eval_every_n_epochs:
        check_held_out(*known, val_loader, "val_data_loader", ignored)
    width = points.num_outputs
    calibrator.init(width, jax.random.PRNGKey(0))
    _check_memory(num_samples, count_points(points, calib_loader, name), width)


def _check(
    samples: WeightSamples, likelihood: ModelLikelihood, loader: DataLoader, argument: str
) -> int:
    """The most points that count in a batch; computes nothing.

    Raises unless every batch can be used and the outputs fit into memory.
    """
    width, points, most = 0, 0, 0
    samples, batches = _batches(samples, likelihood, loader, argument)
    for batch in batches:
        width = width or output_shape(likelihood.network, samples, batch.inputs)[-1]
        check_finite_inputs(batch.inputs, batch.index, argument)
        positions, ignored = samples.positions, likelihood.ignored_label
        counted = num_counted(checked_rows(batch, likelihood.output, width, positions, ignored))
        points, most = points + counted, max(most, counted)
    check_some_count(points, argument)
    _check_memory(samples.size, points, width)
    return most


def _batches(
    samples: WeightSamples, likelihood: ModelLikelihood, loader: DataLoader, argument: str
) -> tuple[WeightSamples, Iterator[CheckedBatch]]:
    batches = data_batches(loader, argument=argument, one_shape=False, masks=True)
    return at_positions(likelihood.network, samples, batches)


def _check_memory(num_samples: int, num_points: int, width: int) -> None:
    needed = num_samples * num_points * width * 4
    available = available_bytes()
    if available is not None and needed > available:
        raise MemoryLimitError(
            f"calibration keeps the outputs of {num_samples} weight samples at "
            f"{num_points:,} points, {needed:,} bytes, and there are {available:,}; "
            "lower n_posterior_samples of CalibProcessor, or give fewer calibration data",
            needed,
            available,
        )


def _outputs(
    samples: WeightSamples,
    likelihood: ModelLikelihood,
    loader: DataLoader,
    argument: str,
    most: int,
) -> list[OutputBatch]:
    """Outputs ``(S, B, C)`` and targets of the points of each batch that count, from one pass."""
    rows: list[CheckedBatch] = []
    samples, batches = _batches(samples, likelihood, loader, argument)

    def kept() -> Iterator[tuple[Any]]:
        for batch in batches:
            positions, ignored = samples.positions, likelihood.ignored_label
            found = rows_of(batch, likelihood.output, positions, ignored)
            rows.append(dataclasses.replace(found, inputs=None))
            yield (batch.inputs,)

    padded = []
    parts = over_samples(likelihood.network, samples, classes.raw, kept(), axis=1)
    for index, outputs in enumerate(parts):
        targets, mask = np.asarray(rows[index].targets), rows[index].mask
        if mask is not None:
            outputs, targets = outputs[:, mask], targets[mask]
        if len(targets):
            padded.append(padded_outputs(outputs, targets, most))
    return padded
