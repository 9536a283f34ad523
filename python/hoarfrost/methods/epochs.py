"""Epochs of a method that trains: losses, validation, metrics, early stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_counts
from hoarfrost.data import DataLoader
from hoarfrost.data.checked import CheckedBatch, data_batches
from hoarfrost.dtypes import copied
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Partition
from hoarfrost.likelihood import Likelihood
from hoarfrost.likelihood.points import num_counted
from hoarfrost.methods.draws import Draws
from hoarfrost.methods.kept import held_out
from hoarfrost.methods.loop import Loop
from hoarfrost.methods.problem import Problem
from hoarfrost.predictive.weight_samples import WeightSamples, over_samples
from hoarfrost.training.first_batch import check_held_out
from hoarfrost.training.monitor import (
    EarlyStopping,
    History,
    Metric,
    Watch,
    check_early_stopping,
    compute_metrics,
    counted_alone,
    metric_names,
    recorded_values,
)
from hoarfrost.types import Array, Tree, pytree

# The state of all chains -> the weights that they stand for, with a leading axis of chains.
WeightsOf = Callable[[Any], Draws]

# (problem, epochs that are done, the state of all chains) -> the problem that training goes on with
Revise = Callable[[Problem, int, Any], Problem]


class Collector(Protocol):
    """What is told of states on the way."""

    def stops(self, per_epoch: int, n_epochs: int) -> Sequence[int]:
        """After how many steps, ascending; raises before the first step where they are too few."""

    def add(self, state: Any) -> None:
        """A state, which it must copy to keep."""


@dataclass(frozen=True, eq=False)
class Monitoring:
    """What is watched while a method trains.

    Attributes
    ----------
    val_loader : DataLoader or None
        Validation data.
    metrics : sequence of callable
        ``metric(predictions, targets) -> float``, on the host, after an epoch; of members side by
        side the mean.
    predict : callable or None
        Outputs ``(B, C)`` to the predictions that metrics see; needed with metrics.
    training_metrics : bool
        Whether metrics are computed on the training data too, in a pass of evaluation.
    early_stopping : EarlyStopping or None
        When to stop; what is given back is then the best state.
    eval_every_n_epochs : int
        Validation comes after every so many epochs.
    """

    val_loader: DataLoader | None = None
    metrics: Sequence[Metric] = ()
    predict: Callable[[jax.Array], jax.Array] | None = None
    training_metrics: bool = True
    early_stopping: EarlyStopping | None = None
    eval_every_n_epochs: int = 1


UNWATCHED = Monitoring()


@dataclass(frozen=True, eq=False)
class Trained:
    """What epochs came to.

    Attributes
    ----------
    state : tree of arrays
        Of the method, after the last epoch or at the best one, leading axis of chains.
    status : dict of str to ndarray
        "loss" ``(epochs,)``, "val_loss" and metrics.
    problem : Problem
        As the last step saw it.
    """

    state: Tree
    status: dict[str, Array]
    problem: Problem


def train_epochs(
    problem: Problem,
    loop: Loop,
    state: Tree,
    n_epochs: int,
    *,
    weights_of: WeightsOf,
    numbers: Tree = None,
    each: Tree = (),
    monitoring: Monitoring = UNWATCHED,
    description: str,
    collector: Collector | None = None,
    revise: Revise | None = None,
) -> Trained:
    """Run a method's steps, epoch by epoch.

    Parameters
    ----------
    state : tree of arrays
        Before the first step, leading axis of chains.
    n_epochs : int
        Passes over the data.
    weights_of : callable (state) -> Draws
        What validation and metrics are computed at.
    numbers : tree of arrays
        What all steps take; `each` what one step takes, ``(steps, ...)``.
    monitoring : Monitoring
        What is watched.
    description : str
        Of the bar.
    collector : Collector, optional
        Told of states after the steps that it names.
    revise : callable, optional
        Asked between epochs for the prior and likelihood that training goes on with, of the dtypes
        and shapes that they had. Losses of epochs are then of different targets.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError, DataError
        If an option or validation data cannot be used, before the first step; if a step gives
        something that is not finite.
    """
    check_counts(n_epochs=n_epochs, eval_every_n_epochs=monitoring.eval_every_n_epochs)
    watched = _Watched(problem, monitoring, weights_of)
    per_epoch = loop.batches.per_epoch
    history = History()
    rule = monitoring.early_stopping
    watch = None if rule is None else Watch(rule)
    ends = [per_epoch * (epoch + 1) for epoch in range(n_epochs)]
    told = set() if collector is None else set(collector.stops(per_epoch, n_epochs))
    parts: list[Array] = []
    reached: Any = state
    for stop, carried, losses in loop.run(
        loop.start(state),
        0,
        sorted(told.union(ends)),
        each,
        numbers,
        description=description,
        progress=problem.progress,
        remedy="try a smaller learning rate, or inputs scaled to about 1",
        given=lambda: watched.problem.given,
    ):
        reached = carried.state
        if collector is not None and stop in told:
            collector.add(reached)
        parts.append(losses)
        epoch, place = divmod(stop, per_epoch)
        if place:
            continue
        history.add("loss", float(np.concatenate(parts).mean()))
        parts = []
        evaluated = watched.add(history, epoch, reached)
        if watch is not None and (evaluated or not watch.rule.monitor.startswith("val_")):
            if watch.improved(history.values[watch.rule.monitor][-1]):
                watch.best_state = copied(reached)
            if watch.out_of_patience:
                break
        if revise is not None:
            watched.problem = revise(watched.problem, epoch, reached)
    if watch is not None and watch.best_state is not None:
        reached = watch.best_state
    return Trained(reached, history.status(), watched.problem)


class _Watched:
    """Validation and metrics, checked before the first step."""

    def __init__(self, problem: Problem, monitoring: Monitoring, weights_of: WeightsOf) -> None:
        self.problem, self.given, self.weights_of = problem, monitoring, weights_of
        self.names = metric_names(monitoring.metrics)
        if self.names and monitoring.predict is None:
            raise InvalidArgumentError("metrics need predict, the predictions that they are to see")
        validates = monitoring.val_loader is not None
        if monitoring.early_stopping is not None:
            recorded = recorded_values(self.names, monitoring.training_metrics, validates)
            check_early_stopping(monitoring.early_stopping, recorded)
        self.val: DataLoader | None = None
        if monitoring.val_loader is not None:
            subset, ignored = problem.subset, problem.points.ignored_label
            self.val = held_out(
                subset, problem.whole, monitoring.val_loader, progress=problem.progress
            )
            check_held_out(subset, problem.likelihood, self.val, "val_data_loader", ignored)

    def add(self, history: History, epoch: int, state: Any) -> bool:
        """Record what is watched after an epoch; whether validation data were gone over."""
        validates = self.val is not None and epoch % self.given.eval_every_n_epochs == 0
        trains = bool(self.names) and self.given.training_metrics
        if not validates and not trains:
            return False
        draws = self.weights_of(state)
        if trains:
            _, metrics = self._over(self.problem.loader, "data_loader", draws)
            for name, value in metrics.items():
                history.add(name, value)
        if validates:
            assert self.val is not None
            total, metrics = self._over(self.val, "val_data_loader", draws)
            given, partition = self.problem.given, self.problem.kind.partition
            prior = _log_priors(given.prior, draws.trainable, given.frozen, partition)
            history.add("val_loss", -total - float(np.mean(np.asarray(prior, np.float64))))
            for name, value in metrics.items():
                history.add(f"val_{name}", value)
        return validates

    def _over(
        self, loader: DataLoader, argument: str, draws: Draws
    ) -> tuple[float, dict[str, float]]:
        """The summed log-likelihood and the metrics, means over the chains."""
        problem = self.problem
        kept: list[CheckedBatch] = []

        def batches() -> Iterator[tuple[Any, ...]]:
            given = data_batches(loader, argument=argument, one_shape=False, masks=True)
            for batch in filter(num_counted, map(problem.points.checked, given)):
                kept.append(replace(batch, inputs=None))
                yield batch.inputs, np.asarray(batch.targets)

        samples = WeightSamples(
            problem.kind.partition,
            draws.trainable,
            problem.given.frozen,
            problem.given.mutable,
            positions=problem.points.positions,
            devices=problem.subset.devices,
            own=draws.statistics,
            owned=problem.kind.moving if draws.statistics else (),
        )
        statistic = _Outputs(problem.likelihood)
        total, outputs = 0.0, []
        found = over_samples(problem.subset.network, samples, statistic, batches(), axis=1)
        for place, (values, own) in enumerate(found):
            mask = kept[place].mask
            rows, own = (values, own) if mask is None else (values[:, mask], own[:, mask])
            total += float(rows.sum(dtype=np.float64)) / len(rows)
            outputs.append(own)
        counted = list(map(counted_alone, kept))
        if not self.names:
            return total, {}
        predict = self.given.predict
        assert predict is not None
        sums = dict.fromkeys(self.names, 0.0)
        for chain in range(draws.size):
            predicted = (predict(jnp.asarray(own[chain])) for own in outputs)
            pairs = list(zip(predicted, counted, strict=True))
            for name, value in compute_metrics(self.given.metrics, self.names, pairs).items():
                sums[name] += value / draws.size
        return total, sums


@pytree
@dataclass(frozen=True)
class _Outputs:
    """Log-densities ``(S, B)`` under each sample, and the outputs ``(S, B, C)``."""

    likelihood: Likelihood

    def __call__(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(lambda one: self.likelihood.log_prob(one, targets))(outputs), outputs


def _log_priors(prior: Any, trainable: Tree, frozen: Tree, partition: Partition) -> jax.Array:
    return jax.vmap(lambda one: prior(one, frozen, partition))(trainable)
