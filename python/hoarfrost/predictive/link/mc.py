"""The link "mc": samples of Gaussian outputs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hoarfrost.data.pieces import bucket_size, cut
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import check_room
from hoarfrost.predictive import mixture
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs, draw_outputs
from hoarfrost.predictive.link.base import Draws, Needs, Quantity
from hoarfrost.types import Array

# Numbers that the draws of a chunk of points hold at once: 64 MB in float64.
_NUMBERS_AT_ONCE = 2**23

# Of each number: its noise and its sample in float64, then in the outputs' dtype and in a program.
_BYTES_A_NUMBER = 32


class MonteCarlo:
    """A mixture over samples ``f + V^1/2 z``, of the seed and a point's index alone."""

    name: ClassVar[str] = "mc"
    needs: ClassVar[Needs] = "covariance"
    samples: ClassVar[bool] = True

    def takes(self, quantity: Quantity, likelihood: Likelihood) -> bool:
        """For everything but moments, which have a closed form wherever they are known."""
        return quantity != "moments"

    def __call__(
        self, quantity: Quantity, likelihood: Likelihood, outputs: GaussianOutputs, draws: Draws
    ) -> Array:
        """A statistic of the mixture, ``(B, ...)``."""
        statistic = mixture.statistic(quantity, likelihood)
        count, num_outputs = outputs.mean.shape
        at_once = max(1, _NUMBERS_AT_ONCE // (draws.n_samples * num_outputs))
        step = min(at_once, bucket_size(count, count))
        if at_once == 1:
            check_room(
                f"the draws of one point's {num_outputs} outputs, {draws.n_samples:,} of them,",
                _BYTES_A_NUMBER * draws.n_samples * num_outputs,
                "give a smaller n_samples",
            )
        results = []
        for first in range(0, count, step):
            part = slice(first, min(first + step, count))
            length = part.stop - first
            samples = draw_outputs(
                outputs.mean[part],
                outputs.known_covariance[part],
                draws.seed,
                outputs.start + first,
                draws.n_samples,
            )
            # One shape for all chunks of a piece and for pieces of nearly the same size.
            size = bucket_size(length, step)
            padded = cut(samples.swapaxes(0, 1), 0, size, length).swapaxes(0, 1)
            rest = () if outputs.targets is None else (cut(outputs.targets[part], 0, size, length),)
            results.append(np.asarray(mixture.evaluate(statistic, padded, *rest))[:length])
        return np.concatenate(results)
