"""From a loader and weight samples to one array over all points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data.checked import data_batches, input_batches
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.predictive.weight_samples import Statistic, WeightSamples, num_outputs, over_samples
from hoarfrost.prob_model.loaders import as_inputs_loader
from hoarfrost.types import Tree


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

    A statistic that is a tree of arrays gives one: what belongs together comes from one pass.
    """
    loader = as_inputs_loader(inputs_loader)
    checked = input_batches(loader, argument="inputs_loader", one_shape=False)
    batches = ((batch.inputs,) for batch in checked)
    parts = over_samples(network, samples, statistic, batches, axis=axis, key=key)
    return _joined(parts, axis)


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

    def checked() -> Iterator[tuple[Any, Any]]:
        known: int | None = None
        for batch in data_batches(data_loader, one_shape=False):
            known = num_outputs(network, samples, batch.inputs) if known is None else known
            likelihood.check_targets(batch.targets, known, batch.index)
            yield batch.inputs, batch.targets

    parts = over_samples(network, samples, statistic, checked(), axis=axis)
    found: jax.Array = _joined(parts, axis)
    return found


def _joined(parts: Iterator[Tree], axis: int) -> Any:
    """Results of all batches along the axis of the points."""
    return jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x, axis=axis)), *parts)
