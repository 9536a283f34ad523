"""What is found on the first batch, and on parameters, before the first step of a training."""

from __future__ import annotations

import warnings

import jax
import numpy as np

from hoarfrost.data import DataLoader
from hoarfrost.data.checked import check_finite_inputs, data_batches, epoch_batches
from hoarfrost.devices import Devices
from hoarfrost.dtypes import is_finite
from hoarfrost.errors import NonFiniteError, ShapeError
from hoarfrost.freezing import Subset
from hoarfrost.likelihood import Likelihood
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
    subset: Subset, likelihood: Likelihood, loader: DataLoader, argument: str
) -> int:
    """The number of outputs, after checking that the first batch can be used; computes nothing."""
    first = next(
        epoch_batches(loader, 0, lambda *_: None, argument=argument, again=False)  # targets: below
    )
    inputs, targets = first.inputs, np.asarray(first.targets)
    shape = subset.output_shape(inputs)
    likelihood.check_outputs(shape)
    if shape[0] != targets.shape[0]:
        raise ShapeError(
            f"the network's outputs have shape {shape} for a batch of {targets.shape[0]} points; "
            "the first axis must run over the points"
        )
    likelihood.check_targets(targets, shape[1], 0)
    return shape[1]


def check_held_out(
    subset: Subset,
    likelihood: Likelihood,
    loader: DataLoader,
    argument: str,
    *,
    whole: bool | None = None,
) -> int:
    """The number of outputs, after checking data that are used only after training has begun.

    All of them where they lie in arrays (or where `whole` asks for it), which is a look at their
    numbers; else the first batch, since a stream may be dear to go over.
    """
    width = check_first_batch(subset, likelihood, loader, argument)
    if loader.holds_arrays if whole is None else whole:
        for batch in data_batches(loader, argument=argument, one_shape=False):
            check_finite_inputs(batch.inputs, batch.index, argument)
            likelihood.check_targets(batch.targets, width, batch.index)
    return width


def sharing_devices(subset: Subset, loader: DataLoader) -> Devices:
    """The devices that share each batch of a training.

    All of them, but of a network with statistics of its batches, which padding would enter, those
    that share the first batch evenly; another batch is then whole on each, if it cannot be shared.
    """
    if subset.devices.count == 1 or not jax.tree.leaves(subset.mutable):
        return subset.devices
    _, targets = next(iter(loader.epoch(0)))
    return subset.devices.dividing(len(targets))


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
