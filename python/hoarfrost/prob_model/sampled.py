"""What the predictive distributions share: weight samples, and outputs under them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.likelihood import mixture
from hoarfrost.prob_model.calibrated import calibrated
from hoarfrost.prob_model.likelihood import ClassificationLikelihood
from hoarfrost.prob_model.posterior import Posterior
from hoarfrost.prob_model.random import RandomNumberGenerator, check_key
from hoarfrost.prob_model.regression_likelihood import RegressionLikelihood
from hoarfrost.prob_model.statistics import Statistic, over_data, over_inputs
from hoarfrost.training.ensemble import WeightSamples
from hoarfrost.training.options import check_counts


class SampledPredictive:
    """A predictive distribution by Monte Carlo over the posterior's weights."""

    def __init__(
        self,
        posterior: Posterior,
        likelihood: ClassificationLikelihood | RegressionLikelihood,
        random: RandomNumberGenerator,
    ) -> None:
        self.posterior = posterior
        self.likelihood: Any = likelihood
        self._random = random

    def sample_calibrated_outputs(
        self,
        inputs_loader: Any,
        n_output_samples: int = 1,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Outputs under `n_output_samples` weight samples, shape ``(S, N, C)``.

        They are calibrated where the model is.
        """
        check_counts(n_output_samples=n_output_samples)
        outputs = self._over_inputs(
            mixture.raw, inputs_loader, n_output_samples, rng, link=link, axis=1
        )
        return jnp.broadcast_to(outputs, (n_output_samples, *outputs.shape[1:]))

    def _samples(self, n_samples: int, key: jax.Array, link: str | None) -> WeightSamples:
        """Draws for one call, with what calibrates their outputs."""
        samples = self.posterior.weight_samples(n_samples, key, link)
        state = self.posterior.state.get()
        return calibrated(
            samples, self.likelihood.calibrator, state.calib_params, state.calib_mutable
        )

    def _over_inputs(
        self,
        statistic: Statistic,
        inputs_loader: Any,
        n_samples: int,
        rng: jax.Array | None,
        *,
        link: str | None,
        axis: int = 0,
    ) -> jax.Array:
        check_counts(n_posterior_samples=n_samples)
        samples = self._samples(n_samples, self._key(rng), link)
        return over_inputs(self.likelihood.network, samples, statistic, inputs_loader, axis=axis)

    def _over_data(
        self,
        statistic: Statistic,
        data_loader: Any,
        n_samples: int,
        rng: jax.Array | None,
        *,
        link: str | None,
        axis: int = 0,
    ) -> jax.Array:
        check_counts(n_posterior_samples=n_samples)
        samples = self._samples(n_samples, self._key(rng), link)
        network, output = self.likelihood.network, self.likelihood.output
        return over_data(network, samples, output, statistic, data_loader, axis=axis)

    def _key(self, rng: jax.Array | None) -> jax.Array:
        return self._random.get() if rng is None else check_key(rng)
