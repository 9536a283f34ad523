"""Calibration of a fitted model as a `CalibConfig` describes it."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from hoarfrost.calibration import CalibrationStatistics, OutputCalibrator, fit_calibrator
from hoarfrost.data import DataLoader
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
    with on_processor(processor):
        samples = posterior.weight_samples(config.processor.n_posterior_samples, samples_key)
        batches = _outputs(network, samples, likelihood, calib_loader)
        val_batches = None
        if val_loader is not None and every:
            val_batches = _outputs(network, samples, likelihood, val_loader)
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
    width = check_held_out(subset, likelihood, calib_loader, "calib_data_loader", whole=True)
    if val_loader is not None and config.monitor.eval_every_n_epochs:
        check_held_out(subset, likelihood, val_loader, "val_data_loader")
    calibrator.init(width, jax.random.PRNGKey(0))
    _check_memory(num_samples, calib_loader.size, width)


def _outputs(
    network: Network, samples: WeightSamples, likelihood: Likelihood, loader: DataLoader
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Outputs ``(S, B, C)`` and targets of each batch, checked."""
    targets_of = [np.asarray(targets) for _, targets in loader.in_order()]
    first = next(iter(loader.in_order()))[0]
    width = num_outputs(network, samples, first)
    for index, targets in enumerate(targets_of):
        likelihood.check_targets(targets, width, index)
    _check_memory(samples.size, sum(map(len, targets_of)), width)
    inputs = ((inputs,) for inputs, _ in loader.in_order())
    parts = over_samples(network, samples, classes.raw, inputs, axis=1)
    return list(zip(parts, targets_of, strict=True))


def _check_memory(num_samples: int, num_points: int, width: int) -> None:
    needed = num_samples * num_points * width * 4
    available = available_bytes()
    if available is not None and needed > available:
        raise MemoryLimitError(
            f"calibration keeps the outputs of {num_samples} weight samples at {num_points:,} "
            f"points, {needed:,} bytes, and there are {available:,}; lower n_posterior_samples of "
            "CalibProcessor, or give fewer calibration data",
            needed,
            available,
        )
