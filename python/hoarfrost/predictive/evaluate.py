"""A quantity of the targets at many points, by a link."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import cut
from hoarfrost.data.positions import examples_at_once
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
    DataError
        If there is no point: the mask of targets leaves none.
    """
    parts = []
    for outputs in pieces:
        found = link(quantity, likelihood, outputs, draws)
        if quantity != "density":
            found = narrowed(found, outputs.dtype, f"a prediction ({quantity})", _REMEDY)
        parts.append(found)
    if not parts:
        raise DataError("no target counts: every one is masked or the ignored label")
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
    counted: list[Array] = []
    pieces = _cut(batches, examples_at_once(_POINTS_AT_ONCE, samples.positions), counted)
    parts = list(over_samples(network, samples, statistic, pieces, axis=axis, precision=precision))
    if not parts:
        raise DataError("inputs are empty: there is no point along axis 0 to predict for")
    found = np.concatenate(parts, axis=axis)
    if counted:
        found = found[np.concatenate(counted)]
        if not len(found):
            raise DataError("no target counts: every one is masked or the ignored label")
    if quantity in ("moments", "mean") and not np.isfinite(found).all():
        raise NonFiniteError(
            f"a prediction ({quantity}) is {found[first_not_finite(found)]} at index "
            f"{first_not_finite(found)}, too large for {found.dtype}; {_REMEDY}"
        )
    return found


def _axis(quantity: Quantity) -> int:
    return 1 if quantity == "moments" else 0


def _cut(
    batches: Iterable[CheckedBatch], at_once: int, counted: list[Array]
) -> Iterator[tuple[Any, ...]]:
    """Inputs, and targets where there are any, of so many examples that fit at once.

    Masks of targets are appended to `counted`.
    """
    for batch in batches:
        if batch.mask is not None:
            counted.append(batch.mask)
        for start in range(0, batch.size, at_once):
            length = min(at_once, batch.size - start)
            inputs = cut(batch.inputs, start, length, length)
            if batch.targets is None:
                yield (inputs,)
            else:
                each = len(batch.targets) // batch.size  # rows of an example
                yield inputs, batch.targets[start * each : (start + length) * each]
