"""The training loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hoarfrost.checks import check_counts
from hoarfrost.data import DataLoader
from hoarfrost.dtypes import copied
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.fork import check_not_forked
from hoarfrost.freezing import Subset
from hoarfrost.likelihood import Likelihood
from hoarfrost.prior import Prior, check_prior
from hoarfrost.progress import progress_bar
from hoarfrost.training import step as programs
from hoarfrost.training.epoch import Run
from hoarfrost.training.first_batch import (
    check_finite_params,
    check_first_batch,
    check_held_out,
    count_points,
    sharing_devices,
    warn_of_idle_layers,
)
from hoarfrost.training.layer_alone import is_over_features, layer_alone
from hoarfrost.training.monitor import (
    EarlyStopping,
    History,
    Metric,
    Watch,
    check_early_stopping,
    compute_metrics,
    metric_names,
    recorded_values,
)
from hoarfrost.training.options import check_gradient_options, check_optimizer
from hoarfrost.training.progress import (
    Progress,
    Resumption,
    Standing,
    UnderWay,
    Write,
    kinds_of,
    resumed,
)
from hoarfrost.training.state import Callback, TrainState
from hoarfrost.types import Tree

MakeFeatures = Callable[[], tuple[DataLoader, DataLoader | None] | None]


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to.

    Attributes
    ----------
    params, mutable : tree of arrays
        All parameters and all other collections.
    status : dict of str to numpy.ndarray
        "loss" and metrics, shape ``(n_epochs,)``; "val_loss" and "val_" metrics, one value for
        each evaluated epoch. Of a run that went on from a checkpoint with the epochs before it.
    step : jax.Array
        Number of steps that led to these parameters, int32, shape ``()``.
    opt_state : tree or None
        The optimiser's state, where the parameters are those of the last step; else None.
    progress : Progress or None
        What going on from these parameters takes; None where they are not those of a whole epoch.
    not_resumed : tuple of str
        What of the `resume` that was given could not be used, in words.
    failure : BaseException or None
        Why the run ended before its last epoch: a step that gave something that is not finite, or
        anything (Ctrl-C, too) that was raised after the first whole epoch. The caller keeps the
        parameters, then raises.
    reached : str
        Of a run that ended so, in words: which parameters these are.
    """

    params: Tree
    mutable: Tree
    status: dict[str, np.ndarray]
    step: jax.Array
    opt_state: Tree | None
    progress: Progress | None = None
    not_resumed: tuple[str, ...] = ()
    failure: BaseException | None = None
    reached: str = ""


def fit_map(
    subset: Subset,
    *,
    prior: Prior,
    likelihood: Likelihood,
    train_loader: DataLoader,
    optimizer: optax.GradientTransformation,
    n_epochs: int,
    key: jax.Array,
    val_loader: DataLoader | None = None,
    predict: programs.Predict | None = None,
    metrics: Sequence[Metric] = (),
    training_metrics: bool = True,
    early_stopping: EarlyStopping | None = None,
    eval_every_n_epochs: int = 1,
    max_grad_norm: float | None = None,
    gradient_accumulation_steps: int | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = True,
    ignored_label: int | None = None,
    features: MakeFeatures | None = None,
    resume: Resumption | None = None,
    write_checkpoint: Write | None = None,
    save_every_n_steps: int | None = None,
) -> TrainingResult:
    """Minimise the negative log joint, ``-(N / B) sum_b log p(y_b | f_b) - log p(params)``.

    A data point is an example, or each position of one that counts, where outputs have positions:
    N is the number of those in all training data, and B in a batch. A batch in which none counts
    takes no step.

    The prior covers all parameters, frozen ones too. The loss of an epoch is the mean of its
    batches' losses, weighted by their points, each before its step. Gradients and the state of
    the optimiser exist for the trainable parameters only. The last batch of an epoch is padded to
    the size of the others and its padding left out, except for a network with mutable
    collections: padding would enter its batch statistics, so that a smaller batch is compiled for
    once more. (Outputs that depend on the other points of a batch need such a collection, as
    BatchNorm has.) Statistics of a module whose parameters are all frozen stay as they are.

    Parameters
    ----------
    subset : Subset
        The network, where training starts, and which parameters are trained; the arrays are copied,
        never overwritten. Several devices of it share each batch: the padding is theirs too, and
        where a batch cannot be padded as many of them take part as share it evenly. What is given
        back lies on the first.
    prior : Prior
        Prior over all parameters.
    likelihood : Likelihood
        Density of the targets.
    train_loader, val_loader : DataLoader
        Epoch n takes the order of ``train_loader.epoch(n)``. Both may be features
        (`hoarfrost.features`) of the trainable layer, which is then trained alone.
    optimizer : optax.GradientTransformation
        Any optimiser. The compiled step belongs to this very object: pass the same one again and
        nothing is compiled again.
    n_epochs : int
        Passes over the training data.
    key : jax.Array
        Step s draws its dropout from ``fold_in(key, s)``.
    predict : callable, optional
        Outputs to the predictions that `metrics` see; needed with metrics.
    metrics : sequence of callable
        ``metric(predictions, targets) -> float``, called on the host with the NumPy arrays of
        a whole epoch.
    training_metrics : bool
        Whether metrics are computed on the training data too.
    early_stopping : EarlyStopping, optional
        When to stop; the best state is then what is given back.
    eval_every_n_epochs : int
        Validation comes after every so many epochs.
    max_grad_norm : float, optional
        Gradients (of the trainable parameters) are scaled down to at most this global norm.
    gradient_accumulation_steps : int, optional
        How many batches make one update, which is that of one batch of all their points: gradients
        are weighted by points, then clipped. The batches that an epoch has left over make an
        update of their own, so that no gradient goes over into the next epoch. Batch statistics
        are those of the small batches, and dropout is drawn for each of them.
    callbacks : sequence of Callback
        Called at the moments that they are named after.
    verbose : bool
        Whether there is a progress bar.
    ignored_label : int, optional
        Targets with this label do not count.
    features : callable (), optional
        Makes features of both loaders, after everything was checked; None: there are none.
    resume : Resumption, optional
        How far these parameters and statistics had come: the run goes on from there. An epoch that
        had begun is finished first and counts as the first of `n_epochs`; `key` is then that of
        the run that began.
    write_checkpoint : callable (state, progress, finished), optional
        Called after every `save_every_n_steps` steps (where an update is under way then, after
        it), and when all is done.
    save_every_n_steps : int, optional
        None: only when all is done.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError, DataError
        If an argument, the parameters or a batch cannot be used. Arguments, parameters, the first
        batches and validation data in arrays are checked before the first step, every other batch
        before its own. What is raised after the first whole epoch comes back as `failure`.
    """
    check_not_forked("training")
    check_prior(prior)
    check_optimizer(optimizer)
    check_counts(n_epochs=n_epochs, eval_every_n_epochs=eval_every_n_epochs)
    check_gradient_options(max_grad_norm, gradient_accumulation_steps)
    names = metric_names(metrics)
    if early_stopping is not None:
        recorded = recorded_values(names, training_metrics, val_loader is not None)
        check_early_stopping(early_stopping, recorded)
    check_finite_params(subset.params)
    subset, train_loader, val_loader = layer_alone(subset, train_loader, val_loader)
    known = subset, likelihood
    points = check_first_batch(*known, train_loader, "train_data_loader", ignored_label)
    if val_loader is not None:
        check_held_out(*known, val_loader, "val_data_loader", ignored_label)
    num_data = count_points(points, train_loader, "train_data_loader")
    warn_of_idle_layers(subset, train_loader)
    if features is not None and (made := features()) is not None:
        subset, train_loader, val_loader = layer_alone(subset, *made)
        points = points.of_layer(subset.output_shape)
    if not names:
        predict = None
    elif predict is None:
        raise InvalidArgumentError("metrics need predict, the predictions that they are to see")

    optimizer = programs.clipped(optimizer, max_grad_norm)
    # Copies, because the steps reuse the buffers of the state that they are given.
    devices = sharing_devices(subset, train_loader)
    subset = replace(subset, devices=devices).placed()
    trainable, frozen = subset.partition.split(subset.params)
    trainable, mutable = copied((trainable, subset.mutable))
    state = TrainState(
        params=trainable,
        frozen_params=frozen,
        mutable=mutable,
        opt_state=programs.init_optimizer(optimizer, trainable),
        step=jnp.zeros((), jnp.int32),
    )
    watch = None if early_stopping is None else Watch(early_stopping)
    standing = Standing(
        write_checkpoint,
        save_every_n_steps,
        key,
        kinds_of(state.opt_state),
        is_over_features(subset),
        watch=watch,
    )
    under_way: UnderWay | None = None
    not_resumed: list[str] = []
    if resume is not None:
        if resume.progress is not None:
            standing.key = resume.progress.key
        state, under_way, not_resumed = resumed(resume, state, standing)
        if under_way is not None and under_way.predictions is None and predict and training_metrics:
            not_resumed.append("it has no metrics of the epoch that had begun, which are NaN")
        if not_resumed:
            warnings.warn(
                f"not all of the checkpoint could be used: {'; '.join(not_resumed)}",
                UserWarning,
                stacklevel=2,
            )
    history, first = standing.history, standing.epochs
    prior, likelihood, key, state = devices.whole((prior, likelihood, standing.key, state))
    if watch is not None:
        watch.best_state = devices.whole(watch.best_state)
    run = Run(
        network=subset.network,
        partition=subset.partition,
        likelihood=likelihood,
        optimizer=optimizer,
        predict=predict,
        moving=subset.network.moving(subset.partition.by_path, mutable),
        devices=devices,
        prior=prior,
        points=points,
        num_data=np.float32(num_data),
        pad=not jax.tree.leaves(mutable),
        callbacks=tuple(callbacks),
        key=key,
        batches_per_update=int(gradient_accumulation_steps or 1),
        standing=standing,
    )
    last = first + n_epochs
    if watch is not None and watch.out_of_patience:
        last = first  # it stopped before
    whole: TrainState | None = None
    failure: BaseException | None = None
    reached = ""
    with progress_bar(total=n_epochs, enabled=verbose) as bar:
        try:
            for epoch in range(first, last):
                wants = predict if training_metrics else None
                if under_way is not None and under_way.predictions is None:
                    wants = None
                state, loss, pairs, failed = run.epoch(
                    state, train_loader, epoch, wants, epoch > first, under_way
                )
                under_way = None
                if failed >= 0:
                    failure, reached = (
                        _diverged(epoch, failed, state),
                        "the parameters before that step",
                    )
                    break
                whole = state if epoch + 1 == last else run.lasting(state)
                standing.epochs = epoch + 1
                reached = f"the parameters after epoch {epoch + 1}, the last whole one"
                history.add("loss", loss)
                if wants is not None:
                    for name, value in compute_metrics(metrics, names, pairs).items():
                        history.add(name, value)
                elif predict is not None and training_metrics:
                    for name in names:
                        history.add(name, math.nan)
                if val_loader is not None and (epoch + 1) % eval_every_n_epochs == 0:
                    val_loss, pairs = run.validate(state, val_loader)
                    history.add("val_loss", val_loss)
                    if predict is not None:
                        for name, value in compute_metrics(metrics, names, pairs).items():
                            history.add(f"val_{name}", value)
                bar.set_description(f"Epoch: {epoch + 1} | {history.last()}", refresh=False)
                bar.update()
                if watch is not None and _stops(watch, history, whole, epoch, eval_every_n_epochs):
                    break
        except BaseException as error:
            # The buffers of `state` may be used up by a step that was under way.
            if whole is None:
                raise
            failure, state = error, whole
    progress = None
    if failure is None:
        progress = standing.progress()
        try:
            if write_checkpoint is not None:
                write_checkpoint(devices.alone(state), progress, True)
        except BaseException as error:
            failure, reached = error, f"the parameters after epoch {standing.epochs}"
        if watch is not None and watch.best_state is not None:
            state = watch.best_state
            # Early stopping goes on from a checkpoint alone, which holds the last state, too.
            progress = replace(progress, watched=None)
        progress = replace(progress, best=None)
    state = devices.alone(state)
    return TrainingResult(
        params=subset.partition.merge(state.params, state.frozen_params),
        mutable=state.mutable,
        status=history.status(),
        step=state.step,
        opt_state=state.opt_state,
        progress=progress,
        not_resumed=tuple(not_resumed),
        failure=failure,
        reached=reached,
    )


def _stops(watch: Watch, history: History, state: TrainState, epoch: int, every: int) -> bool:
    evaluated = (epoch + 1) % every == 0
    if watch.rule.monitor.startswith("val_") and not evaluated:
        return False
    if watch.improved(float(history.values[watch.rule.monitor][-1])):
        watch.best_state = state
    return watch.out_of_patience


def _diverged(epoch: int, step: int, state: TrainState) -> NonFiniteError:
    message = (
        f"the loss, its gradient or the parameters became NaN or infinite in epoch {epoch + 1} "
        f"(step {step + 1}); "
        "the parameters before that step are kept. Try a smaller learning rate, max_grad_norm, or "
        "inputs scaled to about 1"
    )
    if any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(state.params)):
        message += (
            ". These parameters are float16, in which Adam's eps of 1e-8 is 0: take parameters of "
            "bfloat16 or float32 (a network may still compute in float16), or a larger eps"
        )
    return NonFiniteError(message)
