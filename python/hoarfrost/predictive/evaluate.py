"""A quantity of the targets at many points, by a link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import cut
from hoarfrost.errors import DataError
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network
from hoarfrost.predictive import mixture
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link.base import Draws, Link, Quantity
from hoarfrost.predictive.weight_samples import WeightSamples, over_samples
from hoarfrost.types import Array

# Points that go through the network under all weight samples at once.
_POINTS_AT_ONCE = 1024


def over_outputs(
    link: Link,
    quantity: Quantity,
    likelihood: Likelihood,
    pieces: Iterable[GaussianOutputs],
    draws: Draws,
) -> Array:
    """A quantity from Gaussian outputs, in their dtype, all points together."""
    parts = [
        link(quantity, likelihood, outputs, draws).astype(outputs.dtype, copy=False)
        for outputs in pieces
    ]
    return np.concatenate(parts, axis=_axis(quantity))


def over_weights(
    quantity: Quantity,
    likelihood: Likelihood,
    network: Network,
    samples: WeightSamples,
    batches: Iterable[CheckedBatch],
) -> Array:
    """A quantity of the mixture of the network's own outputs under all samples.

    Raises
    ------
    DataError
        If there is no input.
    """
    statistic = mixture.statistic(quantity, likelihood)
    axis = _axis(quantity)
    parts = list(over_samples(network, samples, statistic, _cut(batches), axis=axis))
    if not parts:
        raise DataError("inputs are empty: there is no point along axis 0 to predict for")
    return np.concatenate(parts, axis=axis)


def _axis(quantity: Quantity) -> int:
    return 1 if quantity == "moments" else 0


def _cut(batches: Iterable[CheckedBatch]) -> Iterator[tuple[Any, ...]]:
    """Inputs, and targets where there are any, of so many points that fit at once."""
    for batch in batches:
        for start in range(0, batch.size, _POINTS_AT_ONCE):
            length = min(_POINTS_AT_ONCE, batch.size - start)
            inputs = cut(batch.inputs, start, length, length)
            if batch.targets is None:
                yield (inputs,)
            else:
                yield inputs, batch.targets[start : start + length]
