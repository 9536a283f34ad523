"""What is found on the first batch, and on parameters, before the first step of a training."""

from __future__ import annotations

import math
import warnings

import jax

from hoarfrost.data import DataLoader
from hoarfrost.data.batch import num_points
from hoarfrost.data.checked import check_finite_inputs, data_batches, epoch_batches, naming
from hoarfrost.devices import Devices
from hoarfrost.dtypes import is_finite
from hoarfrost.errors import DataError, NonFiniteError
from hoarfrost.freezing import Subset
from hoarfrost.likelihood import Likelihood
from hoarfrost.likelihood.points import Points, num_counted
from hoarfrost.types import Tree


def check_finite_params(params: Tree) -> None:
    """Raise `NonFiniteError` that names the leaf if a parameter is NaN or infinite."""
    if is_finite(params):
        return
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if not is_finite(leaf):
            raise NonFiniteError(
                f"the parameter {jax.tree_util.keystr(key_path, simple=True, separator='/')} "
                "holds a NaN or an infinity; start from finite parameters"
            )


def check_first_batch(
    subset: Subset,
    likelihood: Likelihood,
    loader: DataLoader,
    argument: str,
    ignored_label: int | None = None,
) -> Points:
    """What a point is, after checking that the first batch can be used; computes nothing."""
    # Its targets are checked below.
    first = next(epoch_batches(loader, 0, lambda *_: None, argument=argument, again=False))
    return Points.of(likelihood, subset.output_shape, first, ignored_label)


def count_points(points: Points, loader: DataLoader, argument: str) -> int:
    """N, the number of data points of a loader.

    Where examples count as a whole, it is the loader's size. Positions are counted in one pass
    over the batches in their order, each checked; a loader whose batches change from pass to pass
    keeps the N of that one.

    Raises
    ------
    DataError
        If no point counts.
    InvalidArgumentError, ShapeError, NonFiniteError
        If a batch cannot be used.
    """
    if not points.masked and (not points.positions or loader.holds_arrays):
        with naming(argument):
            return loader.size * math.prod(points.positions)
    batches = data_batches(loader, argument=argument, one_shape=False, masks=True)
    total = sum(num_counted(points.checked(batch)) for batch in batches)
    check_some_count(total, argument)
    return total


def check_some_count(total: int, argument: str) -> None:
    """Raise `DataError` if none of the points of a loader counts."""
    if not total:
        raise DataError(
            f"no target of {argument} counts: every one is masked or the ignored label; check the "
            "mask, which is True where a target counts, and ignored_label"
        )


def check_held_out(
    subset: Subset,
    likelihood: Likelihood,
    loader: DataLoader,
    argument: str,
    ignored_label: int | None = None,
    *,
    whole: bool | None = None,
) -> Points:
    """What a point is, after checking data that are used only after training has begun.

    All of them where they lie in arrays (or where `whole` asks for it), which is a look at their
    numbers; else the first batch, since a stream may be dear to go over.
    """
    points = check_first_batch(subset, likelihood, loader, argument, ignored_label)
    if loader.holds_arrays if whole is None else whole:
        total = 0
        for batch in data_batches(loader, argument=argument, one_shape=False, masks=True):
            check_finite_inputs(batch.inputs, batch.index, argument)
            total += num_counted(points.checked(batch))
        check_some_count(total, argument)
    return points


def sharing_devices(subset: Subset, loader: DataLoader) -> Devices:
    """The devices that share each batch of a training.

    All of them, but of a network with statistics of its batches, which padding would enter, those
    that share the first batch evenly; another batch is then whole on each, if it cannot be shared.
    """
    if subset.devices.count == 1 or not jax.tree.leaves(subset.mutable):
        return subset.devices
    inputs, _ = next(iter(loader.epoch(0)))
    return subset.devices.dividing(num_points(inputs))


def warn_of_idle_layers(subset: Subset, loader: DataLoader) -> None:
    """Say which layers would train in evaluation mode, and what to do."""
    inputs = next(iter(loader.epoch(0)))[0]
    idle = subset.network.idle_in_training(subset.params, subset.mutable, inputs)
    if idle:
        warnings.warn(
            f"the network trains with {', '.join(idle)} in evaluation mode: its __call__ takes "
            "none of train, training, deterministic and use_running_average. Let it take train, "
            "and hand that on to these layers, as in nn.Dropout(rate, deterministic=not train)",
            UserWarning,
            stacklevel=3,
        )
