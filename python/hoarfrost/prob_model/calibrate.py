"""Calibration of a fitted model as a `CalibConfig` describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from hoarfrost.calibration import CalibrationStatistics, OutputCalibrator, fit_calibrator
from hoarfrost.data import DataLoader
from hoarfrost.data.checked import check_finite_inputs, data_batches
from hoarfrost.devices import choose_devices
from hoarfrost.errors import MemoryLimitError
from hoarfrost.freezing import Subset
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import available_bytes
from hoarfrost.network import Network
from hoarfrost.predictive import classes
from hoarfrost.predictive.weight_samples import WeightSamples, num_outputs, over_samples
from hoarfrost.prob_model.calib_config import CalibConfig
from hoarfrost.prob_model.fit_config import FitProcessor
from hoarfrost.prob_model.likelihood.calibrated import KEY
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.posterior.map_fit import Status, early_stopping_of, on_processor
from hoarfrost.training.first_batch import check_held_out


def calibrate(
    posterior: Posterior,
    network: Network,
    likelihood: Likelihood,
    calibrator: OutputCalibrator,
    statistics: CalibrationStatistics,
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
    monitor = config.monitor
    if monitor.uncertainty_fn is not None:
        statistics = dataclasses.replace(statistics, uncertainty=monitor.uncertainty_fn)
    samples_key, init_key = jax.random.split(key)
    every = monitor.eval_every_n_epochs
    processor = FitProcessor(config.processor.devices, config.processor.disable_jit)
    loaders = {"calib_data_loader": calib_loader}
    if val_loader is not None and every:
        loaders["val_data_loader"] = val_loader
    with on_processor(processor) as devices:
        samples = posterior.weight_samples(config.processor.n_posterior_samples, samples_key)
        samples = dataclasses.replace(samples, devices=devices).placed()
        known = network, samples, likelihood
        # All data are looked at before the network is run on any of them.
        for name, loader in loaders.items():
            _check(*known, loader, name)
        outputs = {
            name: _outputs(network, samples, loader, name) for name, loader in loaders.items()
        }
        batches, val_batches = outputs["calib_data_loader"], outputs.get("val_data_loader")
        result = fit_calibrator(
            calibrator,
            calibrator.init(batches[0][0].shape[-1], init_key),
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
        )
    state = posterior.state.get()
    posterior.state.put(
        dataclasses.replace(state, calib_params={KEY: result.variables}, calib_mutable=None)
    )
    return dict(result.status)


def check_calibration(
    subset: Subset,
    likelihood: Likelihood,
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
    width = check_held_out(subset, likelihood, calib_loader, "calib_data_loader", whole=True)
    if val_loader is not None and config.monitor.eval_every_n_epochs:
        check_held_out(subset, likelihood, val_loader, "val_data_loader")
    calibrator.init(width, jax.random.PRNGKey(0))
    _check_memory(num_samples, calib_loader.size, width)


def _check(
    network: Network,
    samples: WeightSamples,
    likelihood: Likelihood,
    loader: DataLoader,
    argument: str,
) -> None:
    """Raise unless every batch can be used and the outputs fit into memory; nothing is computed."""
    width: int | None = None
    points = 0
    for batch in data_batches(loader, argument=argument, one_shape=False):
        width = num_outputs(network, samples, batch.inputs) if width is None else width
        check_finite_inputs(batch.inputs, batch.index, argument)
        likelihood.check_targets(batch.targets, width, batch.index)
        points += batch.size
    _check_memory(samples.size, points, width or 0)


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
    network: Network, samples: WeightSamples, loader: DataLoader, argument: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Outputs ``(S, B, C)`` and targets of each batch, from one pass."""
    targets: list[np.ndarray] = []

    def kept() -> Iterator[tuple[Any]]:
        for batch in data_batches(loader, argument=argument, one_shape=False):
            targets.append(batch.targets)
            yield (batch.inputs,)

    parts = list(over_samples(network, samples, classes.raw, kept(), axis=1))
    return list(zip(parts, targets, strict=True))
