"""MAP training as a `FitConfig` describes it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from hoarfrost.curvature import last_layer
from hoarfrost.data import DataLoader
from hoarfrost.data.features import origin_of
from hoarfrost.devices import Devices, choose_devices
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Partition, Subset, make_partition
from hoarfrost.freezing.features import layer_partition
from hoarfrost.network import check_points_apart, param_kinds
from hoarfrost.prob_model.calib_config import CalibMonitor
from hoarfrost.prob_model.fit_config import FitConfig, FitMonitor, FitProcessor
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.posterior.checkpoints import training_writer, without_points
from hoarfrost.prob_model.posterior.feature_cache import FeatureCache
from hoarfrost.prob_model.posterior.start import Start, first_inputs
from hoarfrost.prob_model.state import JointState, PosteriorState, StateRepository
from hoarfrost.training import EarlyStopping, checkpoint, fit_map

Status = dict[str, Any]


def check_configs(fit_config: Any, map_fit_config: Any) -> None:
    """Raise `InvalidArgumentError` unless each is None or a `FitConfig`."""
    for name, config in (("fit_config", fit_config), ("map_fit_config", map_fit_config)):
        if config is not None and not isinstance(config, FitConfig):
            raise InvalidArgumentError(
                f"{name} is a {type(config).__name__}; give a hoarfrost.prob_model.FitConfig"
            )


def partition_of(
    joint: Joint,
    start: JointState,
    config: FitConfig,
    train_loader: DataLoader,
    devices: Devices,
) -> Partition:
    """Which parameters `config` leaves trainable; the first batch shows where the last layer is."""

    def found() -> Partition:
        origin = origin_of(train_loader)
        if origin is not None:
            return layer_partition(start.params, origin.layer, "train_data_loader")
        inputs, _ = next(iter(train_loader.in_order()))
        return last_layer(joint.network, start.params, start.mutable or {}, inputs, devices)

    return make_partition(
        start.params,
        config.optimizer.freeze_fun,
        argument="freeze_fun",
        kinds=param_kinds(joint.network),
        head=found,
    )


def run_map(
    joint: Joint,
    state: StateRepository,
    start: Start,
    train_loader: DataLoader,
    val_loader: DataLoader | None,
    config: FitConfig,
    devices: Devices,
) -> tuple[PosteriorState, Status]:
    """Train to the MAP: the state that it came to, not put into `state` yet, and what was recorded.

    A run that ends early by an error or Ctrl-C leaves the parameters that it had reached in
    `state`, as that says, and raises what ended it.

    Raises
    ------
    MixedPointsError
        If the network's outputs for a point depend on the others of its batch.
    NonFiniteError
        If the loss stopped being finite; what is left are the parameters before that step.
    """
    given, checkpointer = start.state, config.checkpointer
    partition = partition_of(joint, given, config, train_loader, devices)
    if start.is_new and joint.starts_anew and not partition.all_trainable:
        warnings.warn(
            "freeze_fun of a MAP run freezes parameters at their random initial values; train "
            "without it first and go on with FitCheckpointer(start_from_current_state=True)",
            UserWarning,
            stacklevel=4,
        )
    mutable = given.mutable or {}
    subset = Subset(joint.network, partition, given.params, mutable, devices)
    written: list[Path] = []
    seen = without_points(first_inputs(train_loader))
    write = None
    if checkpointer.save_checkpoint_dir is not None:
        folder = os.path.abspath(checkpointer.save_checkpoint_dir)
        checkpoint.prepare(folder)
        keep = checkpointer.keep_top_n_checkpoints
        write = training_writer(folder, keep, partition, seen, written)
    monitor, optimizer = config.monitor, config.optimizer
    every = monitor.eval_every_n_epochs
    cache = None
    if origin_of(train_loader) is None:
        inputs, _ = next(iter(train_loader.in_order()))
        # Predictions would refuse it after the last epoch.
        check_points_apart(joint.network, given.params, mutable, inputs, again=False)
        val = val_loader if every else None
        cache = FeatureCache(subset, train_loader, val, config, start.over_features)
    result = fit_map(
        subset,
        prior=joint.prior,
        likelihood=joint.likelihood.output,
        train_loader=train_loader,
        val_loader=val_loader if every else None,
        optimizer=optimizer.method,
        n_epochs=optimizer.n_epochs,
        key=joint.random.training_key(),
        predict=joint.likelihood.predictions,
        metrics=monitor.metrics or (),
        training_metrics=not monitor.disable_training_metrics_computation,
        early_stopping=early_stopping_of(monitor, val_loader),
        eval_every_n_epochs=every or 1,
        max_grad_norm=config.hyperparameters.max_grad_norm,
        gradient_accumulation_steps=config.hyperparameters.gradient_accumulation_steps,
        callbacks=tuple(config.callbacks or ()),
        verbose=bool(monitor.verbose),
        ignored_label=joint.likelihood.ignored_label,
        features=cache,
        resume=start.resume,
        write_checkpoint=write,
        save_every_n_steps=checkpointer.save_every_n_steps,
    )
    progress = result.progress
    reached = PosteriorState(
        params=result.params,
        mutable=result.mutable or None,
        step=result.step,
        opt_state=result.opt_state,
        progress=None if progress is None else dataclasses.replace(progress, inputs=seen),
    )
    if result.failure is not None:
        state.keep_unfinished(reached, result.reached, result.failure)
        raise result.failure
    status: Status = dict(result.status)
    if cache is not None and cache.said is not None:
        status["features"] = cache.said
    start.tell(status, result.not_resumed)
    if written:
        status["checkpoint"] = str(written[0])
    return reached, status


def early_stopping_of(
    monitor: FitMonitor | CalibMonitor, val_loader: DataLoader | None
) -> EarlyStopping | None:
    """The rule that a monitor describes; None where it never stops early.

    That is so, with a warning, where there are no validation data to stop by.
    """
    if not monitor.early_stopping_patience:
        return None
    if val_loader is None:
        warnings.warn(
            f"early_stopping_patience is {monitor.early_stopping_patience}, but there is no "
            f"val_data_loader that {monitor.early_stopping_monitor} could be computed on: nothing "
            "is stopped early",
            UserWarning,
            stacklevel=5,
        )
        return None
    return EarlyStopping(
        patience=monitor.early_stopping_patience,
        monitor=monitor.early_stopping_monitor,
        min_delta=monitor.early_stopping_min_delta,
        mode=monitor.mode,
    )


@contextlib.contextmanager
def on_processor(processor: FitProcessor) -> Iterator[Devices]:
    """Run where and how a `FitProcessor` says; what is put there is put by the devices given.

    Raises
    ------
    InvalidArgumentError
        If there are fewer devices.
    """
    devices = choose_devices(processor.devices)
    with contextlib.ExitStack() as stack:
        if processor.devices == 0:
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        if processor.disable_jit:
            stack.enter_context(jax.disable_jit())
        yield devices
