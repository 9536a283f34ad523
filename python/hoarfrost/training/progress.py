"""How far a training run has come: with the parameters, what it takes to go on with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import copied
from hoarfrost.training.monitor import (
    EarlyStopping,
    History,
    Pair,
    Watch,
    counted_rows,
    resolve_mode,
)
from hoarfrost.training.state import TrainState
from hoarfrost.types import Tree, path_of


@dataclass(frozen=True)
class UnderWay:
    """An epoch that has begun.

    Attributes
    ----------
    batches, points : int
        What it has gone over.
    totals : tree of arrays
        What it adds up, in any containers of the same names: of training what its steps hand on,
        of calibration the loss of each batch.
    predictions : array or None
        What metrics see of those points; None where there are no metrics.
    """

    batches: int
    points: int
    totals: Tree
    predictions: Any = None


@dataclass(frozen=True)
class Progress:
    """How far a training run has come.

    Attributes
    ----------
    epochs : int
        Whole ones since training first began.
    key : jax.Array
        What every step folds its number into.
    optimizer : str
        The kinds of the parts of the optimiser's state.
    history : dict of str to array
        What was recorded of those epochs.
    under_way : UnderWay or None
        Of the epoch that has begun.
    watched : dict or None
        Of early stopping: "monitor", "mode", "best", "waited".
    best : dict or None
        Of early stopping: "params" (the trainable ones), "mutable" and "step" of the best epoch.
    inputs : tree of arrays or None
        Without points: what a batch looks like.
    over_features : bool or None
        Whether training went over features, which gives the same numbers to rounding only; None
        where all parameters were trained.
    """

    epochs: int
    key: Any
    optimizer: str
    history: dict[str, np.ndarray]
    under_way: UnderWay | None = None
    watched: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    inputs: Tree | None = None
    over_features: bool | None = None


# Called with the state, how far it has come, and whether all is done.
Write = Callable[[TrainState, Progress, bool], None]


@dataclass(frozen=True)
class Resumption:
    """What a training run goes on from, beside parameters and statistics.

    Attributes
    ----------
    step : int
        Steps so far.
    opt_state : tree or None
        The optimiser's state, in any containers of the same names.
    progress : Progress or None
        Unknown where None: the count of epochs starts at 0.
    """

    step: int
    opt_state: Tree | None = None
    progress: Progress | None = None


@dataclass
class Standing:
    """Where a run stands, as it goes on.

    Attributes
    ----------
    write : callable (state, progress, finished) or None
        Writes a checkpoint.
    every : int or None
        After how many steps.
    key, optimizer, over_features, history, watch
        As in `Progress`; of the run itself.
    steps, epochs : int
        Steps and whole epochs so far.
    due : bool
        Whether a checkpoint waits for the update that is under way.
    """

    write: Write | None
    every: int | None
    key: Any
    optimizer: str
    over_features: bool | None = None
    history: History = field(default_factory=History)
    watch: Watch | None = None
    steps: int = 0
    epochs: int = 0
    due: bool = False

    def count_step(self, updated: bool = True) -> bool:
        """Count a step: whether a checkpoint is to be written after it.

        One that falls within an update is written after that: gradients that wait are in none.
        """
        self.steps += 1
        if self.write is not None and self.every is not None and self.steps % self.every == 0:
            self.due = True
        now = self.due and updated
        self.due = self.due and not updated
        return now

    def save(self, state: TrainState, under_way: UnderWay) -> None:
        """Write a checkpoint in the middle of an epoch."""
        assert self.write is not None
        self.write(state, self.progress(under_way), False)

    def progress(self, under_way: UnderWay | None = None) -> Progress:
        """How far it has come."""
        watch, best, watched = self.watch, None, None
        if watch is not None:
            watched = {
                "monitor": watch.rule.monitor,
                "mode": resolve_mode(watch.rule.monitor, watch.rule.mode),
                "best": watch.best,
                "waited": watch.waited,
            }
            if watch.best_state is not None:
                state = watch.best_state
                best = {"params": state.params, "mutable": state.mutable, "step": state.step}
        return Progress(
            self.epochs,
            self.key,
            self.optimizer,
            self.history.status(),
            under_way,
            watched,
            best,
            over_features=self.over_features,
        )


def resumed(
    resumption: Resumption, state: TrainState, standing: Standing
) -> tuple[TrainState, UnderWay | None, list[str]]:
    """The state to go on from, the epoch to finish first, and what could not be used.

    Parameters
    ----------
    resumption
        What there is.
    state
        With the parameters and statistics to go on from, and a new state of the optimiser.
    standing
        Of the new run; it is told what the old one had come to.
    """
    progress, lost = resumption.progress, []
    opt_state = None
    if progress is None or resumption.opt_state is None:
        lost.append("it holds no state of the optimiser")
    elif progress.optimizer != standing.optimizer:
        lost.append("its optimiser was another one")
    else:
        opt_state = in_place(resumption.opt_state, state.opt_state)
        if opt_state is None:
            lost.append(
                "its optimiser's state is that of other trainable parameters or of another dtype"
            )
    state = state.replace(step=jnp.asarray(resumption.step, jnp.int32))
    standing.steps = int(resumption.step)
    if opt_state is not None:
        state = state.replace(opt_state=opt_state)
    if progress is None:
        return state, None, lost
    standing.epochs = progress.epochs
    standing.history.values = {name: list(values) for name, values in progress.history.items()}
    watch, was = standing.watch, progress.watched
    if watch is not None and was is not None:
        fault = _take_up(watch, was, progress.best, state)
        lost += [fault] if fault else []
    return state, progress.under_way, lost


def kinds_of(tree: Any) -> str:
    """The kinds of the parts of an optimiser's state, down to the trees of parameters in it."""
    if isinstance(tree, tuple):
        inner = ", ".join(map(kinds_of, tree))
        return f"{type(tree).__name__}({inner})"
    return "*" if jax.tree_util.all_leaves([tree]) else type(tree).__name__


def same_rule(rule: EarlyStopping, was: dict[str, Any]) -> bool:
    """Whether early stopping watches what it watched before."""
    now = (rule.monitor, resolve_mode(rule.monitor, rule.mode))
    return now == (was["monitor"], was["mode"])


def joined(parts: Sequence[Pair]) -> np.ndarray | None:
    """Predictions of the points of several batches that count, as one array."""
    arrays = [counted_rows(*part) for part in parts]
    return np.concatenate(arrays) if arrays else None


def _take_up(
    watch: Watch, was: dict[str, Any], best: dict[str, Any] | None, state: TrainState
) -> str:
    """Let early stopping go on; what is wrong, if it has to start anew."""
    if not same_rule(watch.rule, was):
        return "its early stopping watched something else"
    if best is not None:
        params = in_place(best["params"], state.params)
        mutable = in_place(best["mutable"], state.mutable)
        if params is None or mutable is None:
            return "the best state of its early stopping is that of other trainable parameters"
        step = jnp.asarray(best["step"], jnp.int32)
        watch.best_state = replace(state, params=params, mutable=mutable, step=step, opt_state=None)
    watch.best, watch.waited = was["best"], was["waited"]
    return ""


def in_place(given: Tree, like: Tree) -> Tree | None:
    """A tree in the containers of another one; None where it does not fit."""
    wanted, treedef = jax.tree_util.tree_flatten_with_path(like)
    found = {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(given)}
    if found.keys() != {path_of(path) for path, _ in wanted}:
        return None
    leaves = []
    for path, leaf in wanted:
        own = found[path_of(path)]
        if own.shape != leaf.shape or own.dtype != leaf.dtype:
            return None
        leaves.append(own)
    # Copies: the steps reuse the buffers of the state that they are given.
    return jax.tree.unflatten(treedef, copied(leaves))
