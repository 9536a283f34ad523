"""The link "mc": samples of Gaussian outputs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import ClassVar

import numpy as np

from hoarfrost.data.pieces import bucket_size, cut
from hoarfrost.likelihood import Likelihood, density_precision
from hoarfrost.memory import check_room
from hoarfrost.predictive import mixture
from hoarfrost.predictive.gaussian_outputs import GaussianOutputs, draw_outputs
from hoarfrost.predictive.link.base import Draws, Needs, Quantity
from hoarfrost.types import Array

# Numbers that the draws of a chunk of points hold at once: 64 MB in float64.
_NUMBERS_AT_ONCE = 2**23


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
        if draws.n_samples * num_outputs > _NUMBERS_AT_ONCE:
            check_room(
                f"{draws.n_samples} samples of {num_outputs} outputs",
                3 * 8 * draws.n_samples * num_outputs,
                "give a smaller n_samples",
            )
        at_once = max(1, _NUMBERS_AT_ONCE // (draws.n_samples * num_outputs))
        step = min(at_once, bucket_size(count, count))
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
            with density_precision(likelihood) if quantity == "density" else nullcontext():
                found = mixture.evaluate(statistic, padded, *rest)
            results.append(np.asarray(found)[:length])
        return np.concatenate(results)
