"""A quantity of the targets at many points, by a link."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import cut
from hoarfrost.dtypes import first_not_finite, narrowed
from hoarfrost.errors import DataError, NonFiniteError
from hoarfrost.likelihood import Likelihood, density_precision
from hoarfrost.network import Network
from hoarfrost.predictive import mixture
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs
from hoarfrost.predictive.link.base import Draws, Link, Quantity
from hoarfrost.predictive.weight_samples import Precision, WeightSamples, over_samples
from hoarfrost.types import Array

# Points that go through the network under all weight samples at once.
_POINTS_AT_ONCE = 1024

# What helps where a number is too large for the outputs' dtype.
_REMEDY = "let the network compute in float64, or give targets and outputs in a larger unit"


def over_outputs(
    link: Link,
    quantity: Quantity,
    likelihood: Likelihood,
    pieces: Iterable[GaussianOutputs],
    draws: Draws,
) -> Array:
    """A quantity from Gaussian outputs, all points together.

    In their dtype; densities as the link gives them, which is in float64 but for a likelihood of a
    user's own.

    Raises
    ------
    NonFiniteError
        If a number is too large for that dtype.
    """
    parts = []
    for outputs in pieces:
        found = link(quantity, likelihood, outputs, draws)
        if quantity != "density":
            found = narrowed(found, outputs.dtype, f"a prediction ({quantity})", _REMEDY)
        parts.append(found)
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
    NonFiniteError
        If a moment is too large for the dtype of the outputs.
    """
    statistic = mixture.statistic(quantity, likelihood)
    axis = _axis(quantity)
    precision: Precision = nullcontext
    if quantity == "density":
        precision = functools.partial(density_precision, likelihood)
    pieces = _cut(batches)
    parts = list(over_samples(network, samples, statistic, pieces, axis=axis, precision=precision))
    if not parts:
        raise DataError("inputs are empty: there is no point along axis 0 to predict for")
    found = np.concatenate(parts, axis=axis)
    if quantity in ("moments", "mean") and not np.isfinite(found).all():
        raise NonFiniteError(
            f"a prediction ({quantity}) is {found[first_not_finite(found)]} at index "
            f"{first_not_finite(found)}, too large for {found.dtype}; {_REMEDY}"
        )
    return found


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
