"""Moments of a network's outputs under draws of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.dtypes import in_float64, widest
from hoarfrost.network import Network
from hoarfrost.predictive.weight_samples import WeightSamples, over_samples
from hoarfrost.types import Array


def output_covariance(
    network: Network, samples: WeightSamples, batches: Iterable[CheckedBatch]
) -> Array:
    """Covariance over the draws, divided by their number, ``(B, C, C)``, float64."""

    def inputs() -> Iterator[tuple[Any, ...]]:
        for batch in batches:
            yield (batch.inputs,)

    parts = over_samples(network, samples, _covariance, inputs(), precision=in_float64)
    return np.concatenate(list(parts))


def _covariance(outputs: jax.Array) -> jax.Array:
    """Of outputs ``(S, B, C)``."""
    wide = widest(outputs)
    centred = wide - jnp.mean(wide, axis=0)
    return jnp.einsum("sbc,sbd->bcd", centred, centred) / outputs.shape[0]
