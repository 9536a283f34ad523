"""From a loader and weight samples to one array over all points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.predictive.weight_samples import Statistic, WeightSamples, num_outputs, over_samples
from hoarfrost.prob_model.loaders import as_data_loader, as_inputs_loader


def over_inputs(
    network: Network,
    samples: WeightSamples,
    statistic: Statistic,
    inputs_loader: Any,
    *,
    axis: int = 0,
    key: jax.Array | None = None,
) -> Any:
    """A statistic of the outputs at all inputs, in the order given, joined along `axis`.

    Of one that is a tuple, each item.
    """
    loader = as_inputs_loader(inputs_loader)
    batches = ((inputs,) for inputs in loader.in_order())
    parts = list(over_samples(network, samples, statistic, batches, axis=axis, key=key))
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves, axis=axis)), *parts)


def over_data(
    network: Network,
    samples: WeightSamples,
    likelihood: Likelihood,
    statistic: Statistic,
    data_loader: Any,
    *,
    axis: int = 0,
) -> jax.Array:
    """A statistic of outputs and targets at all points, in the order given, joined along `axis`.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError
        If targets do not fit; the batch is named.
    """
    loader = as_data_loader(data_loader, "data_loader")

    def checked() -> Iterator[tuple[Any, Any]]:
        known: int | None = None
        for index, (inputs, targets) in enumerate(loader.in_order()):
            known = num_outputs(network, samples, inputs) if known is None else known
            likelihood.check_targets(np.asarray(targets), known, index)
            yield inputs, targets

    parts = over_samples(network, samples, statistic, checked(), axis=axis)
    return jnp.asarray(np.concatenate(list(parts), axis=axis))
