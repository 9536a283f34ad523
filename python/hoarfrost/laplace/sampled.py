"""Statistics over samples of the outputs: of the linearised network, or through the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from hoarfrost.curvature.stream import Batch, Piece, bucket_size, cut
from hoarfrost.errors import DataError
from hoarfrost.laplace.draws import gaussian_outputs
from hoarfrost.laplace.mixtures import evaluate
from hoarfrost.training.ensemble import WeightSamples, over_samples

if TYPE_CHECKING:
    from hoarfrost.laplace.posterior import Laplace

Statistic = Callable[..., jax.Array]

# Numbers that the draws of a chunk of points hold at once: 64 MB in float64.
_NUMBERS_AT_ONCE = 2**23

# Points that go through the network under all weight samples at once.
_POINTS_AT_ONCE = 1024


def linearised_samples(
    laplace: Laplace, pieces: Iterable[Piece], statistic: Statistic, n_samples: int, seed: int
) -> np.ndarray:
    """A statistic of ``f + V^1/2 z`` at each point, ``(B, ...)``.

    A point's draws depend on the seed and on its index alone. Targets are handed to the statistic
    where the pieces have them.
    """
    results, done = [], 0
    for piece in pieces:
        count, num_outputs = piece.outputs.shape
        covariance = laplace.factor.functional_covariance(piece.block)
        step = min(max(1, _NUMBERS_AT_ONCE // (n_samples * num_outputs)), bucket_size(count, count))
        for first in range(0, count, step):
            part = slice(first, min(first + step, count))
            length = part.stop - first
            samples = gaussian_outputs(
                piece.outputs[part], covariance[part], seed, done + first, n_samples
            )
            # One shape for all chunks of a piece and for pieces of nearly the same size.
            size = bucket_size(length, step)
            padded = cut(samples.swapaxes(0, 1), 0, size, length).swapaxes(0, 1)
            rest = () if piece.targets is None else (cut(piece.targets[part], 0, size, length),)
            values = np.asarray(evaluate(statistic, padded, *rest))[:length]
            results.append(values.astype(piece.outputs.dtype, copy=False))
        done += count
    return np.concatenate(results)


def network_samples(
    laplace: Laplace,
    batches: Iterable[Batch],
    statistic: Statistic,
    n_samples: int,
    seed: int,
    *,
    axis: int = 0,
) -> np.ndarray:
    """A statistic of the network's own outputs at `n_samples` draws of its weights.

    The weights are drawn once, for all points. Axis `axis` of the statistic runs over points.

    Raises
    ------
    DataError
        If there is no input.
    """
    linearised = laplace.linearised
    samples = WeightSamples(
        linearised.partition,
        laplace.sample(seed, n_samples),
        linearised.partition.split(linearised.params)[1],
        linearised.mutable,
    )
    parts = over_samples(linearised.network, samples, statistic, _cut(batches), axis=axis)
    results = list(parts)
    if not results:
        raise DataError("inputs are empty: there is no point along axis 0 to predict for")
    return np.concatenate(results, axis=axis)


def _cut(batches: Iterable[Batch]) -> Iterator[tuple[Any, ...]]:
    """Inputs, and targets where there are any, of so many points that fit at once."""
    for batch in batches:
        for start in range(0, batch.size, _POINTS_AT_ONCE):
            length = min(_POINTS_AT_ONCE, batch.size - start)
            inputs = cut(batch.inputs, start, length, length)
            if batch.targets is None:
                yield (inputs,)
            else:
                yield inputs, batch.targets[start : start + length]
