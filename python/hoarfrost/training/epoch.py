"""One epoch of a training, whole or the rest of a broken one, and one pass of validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
import numpy as np
import optax

from hoarfrost.data import DataLoader
from hoarfrost.data.checked import CheckedBatch, epoch_batches
from hoarfrost.devices import Devices
from hoarfrost.dtypes import copied
from hoarfrost.errors import CheckpointError, DataError, InvalidArgumentError
from hoarfrost.freezing import Partition
from hoarfrost.likelihood import Likelihood
from hoarfrost.likelihood.points import Points, num_counted
from hoarfrost.network import Network
from hoarfrost.prior import Prior
from hoarfrost.training import step as programs
from hoarfrost.training.accumulation import turns
from hoarfrost.training.first_batch import check_some_count
from hoarfrost.training.layer_alone import check_frozen
from hoarfrost.training.monitor import Pair, counted_alone
from hoarfrost.training.progress import Standing, UnderWay, in_place, joined
from hoarfrost.training.state import Callback, TrainState


@dataclass(frozen=True)
class Run:
    """What stays the same through all epochs of a run."""

    network: Network
    partition: Partition
    likelihood: Likelihood
    optimizer: optax.GradientTransformation
    predict: programs.Predict | None
    moving: tuple[bool, ...]
    devices: Devices
    prior: Prior
    points: Points
    num_data: np.float32
    pad: bool
    callbacks: tuple[Callback, ...]
    key: jax.Array
    batches_per_update: int
    standing: Standing

    def epoch(
        self,
        state: TrainState,
        loader: DataLoader,
        epoch: int,
        predict: programs.Predict | None,
        again: bool,
        under_way: UnderWay | None = None,
    ) -> tuple[TrainState, np.floating, list[Pair], int]:
        """One pass: the state, the mean loss, predictions with targets, the step that failed.

        Of an epoch that is under way, the rest of it.
        """
        step = programs.step_apart if self.callbacks else programs.step_in_place
        if under_way is None:
            state = self._call(state, "training_epoch_start")
        accumulated = state.params if self.batches_per_update > 1 else None
        totals, points, rows, done, before = programs.no_totals(accumulated), 0, 0, 0, 0
        if under_way is not None:
            done, before = under_way.batches, under_way.points
            kept = in_place(under_way.totals, totals)
            if kept is None:
                raise _other_options()
            totals = kept
        state, totals = self.devices.whole((state, totals))
        pairs: list[Pair] = []
        waits = under_way is not None  # for the batch that the rest begins with
        batches = self._batches(loader, epoch, "train_data_loader", again=again)
        for checked, turn in turns(batches, self.batches_per_update):
            rows = self.devices.rows(max(rows, checked.size)) if self.pad else checked.size
            own = num_counted(checked)
            if checked.index < done:
                if predict is not None and under_way is not None:
                    part = under_way.predictions[points : points + own]
                    pairs.append((part, counted_alone(checked)))
                points += own
                continue
            if waits:
                if points != before:
                    raise _other_data(done, before)
                if turn is not None and turn.before:
                    raise _other_options()  # the first batches of this update made another one
                waits = False
            batch = programs.padded_batch(checked, rows, points, self.devices)
            points += own
            frozen = state.frozen_params
            state, totals, predictions = step(
                self.network,
                self.partition,
                self.likelihood,
                self.optimizer,
                predict,
                self.moving,
                self.devices,
                replace(state, frozen_params=None),
                totals,
                frozen,
                self.prior,
                batch,
                self.num_data,
                self.key,
                turn,
            )
            state = replace(state, frozen_params=frozen)
            if predict is not None:
                pairs.append((predictions, replace(checked, inputs=None)))
            state = self._call(state, "training_step_end")
            # What is gathered for an update is no part of a checkpoint.
            updated = turn is None or bool(turn.last)
            if self.standing.count_step(updated) and int(totals.failed_step) < 0:
                now = UnderWay(checked.index + 1, points, totals, joined(pairs))
                self.standing.save(self.devices.alone(state), now)
        if waits and points != before:
            raise _other_data(done, before)
        check_some_count(points, "train_data_loader")
        state = self._call(state, "training_epoch_end")
        # The one moment of an epoch at which the host waits for the device.
        loss, failed = jax.device_get((totals.loss, totals.failed_step))
        return state, loss, pairs, int(failed)

    def lasting(self, state: TrainState) -> TrainState:
        """The state without its optimiser's, in buffers that the next step does not use again."""
        if self.callbacks:
            return replace(state, opt_state=None)
        params, mutable, step = copied((state.params, state.mutable, state.step))
        return replace(state, params=params, mutable=mutable, step=step, opt_state=None)

    def validate(self, state: TrainState, loader: DataLoader) -> tuple[float, list[Pair]]:
        """The negative log joint of validation data, and predictions with targets."""
        params = self.partition.merge(state.params, state.frozen_params)
        totals, rows = [], 0
        pairs: list[Pair] = []
        for checked in self._batches(loader, 0, "val_data_loader", again=True):
            rows = self.devices.rows(max(rows, checked.size))
            batch = programs.padded_batch(checked, rows, 0, self.devices)
            total, predictions = programs.validation_step(
                self.network, self.predict, self.likelihood, params, state.mutable, batch
            )
            totals.append(total)
            if self.predict is not None:
                pairs.append((predictions, replace(checked, inputs=None)))
        check_some_count(len(totals), "val_data_loader")
        prior = programs.log_prior(self.prior, params)
        totals, prior = jax.device_get((totals, prior))
        return -float(np.sum(totals, dtype=np.float64)) - float(prior), pairs

    def _batches(
        self, loader: DataLoader, epoch: int, argument: str, *, again: bool
    ) -> Iterator[CheckedBatch]:
        """Batches in which a point counts, targets in rows, checked unless they were before."""
        in_rows = self.points.in_rows if again and loader.holds_arrays else self.points.checked
        batches = epoch_batches(loader, epoch, lambda *_: None, argument=argument, again=again)
        return filter(num_counted, map(in_rows, batches))

    def _call(self, state: TrainState, moment: str) -> TrainState:
        if not self.callbacks:
            return state
        for callback in self.callbacks:
            before, state = state, getattr(callback, moment)(state)
            if not isinstance(state, TrainState):
                raise InvalidArgumentError(
                    f"{type(callback).__name__}.{moment} returned {type(state).__name__}; a "
                    "callback must return the state that it was given, or state.replace(...)"
                )
            check_frozen(self.network, before, state, f"{type(callback).__name__}.{moment}")
        return self.devices.whole(state)


def _other_options() -> CheckpointError:
    return CheckpointError(
        "the checkpoint was written in the middle of an epoch with other "
        "gradient_accumulation_steps, freeze_fun or jax_enable_x64; give those of that "
        "run, or a checkpoint from the end of one"
    )


def _other_data(batches: int, points: int) -> DataError:
    return DataError(
        f"train_data_loader: its first {batches} batches do not hold the {points} points that they "
        "held when the checkpoint was written; give the data of that run"
    )
