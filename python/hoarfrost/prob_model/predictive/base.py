"""What the predictive distributions have in common: a mixture over posterior weight samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hoarfrost.checks import check_counts, check_key, check_switch
from hoarfrost.predictive.weight_samples import Precision, Statistic, WeightSamples, point_mass
from hoarfrost.prob_model.likelihood import ModelLikelihood
from hoarfrost.prob_model.likelihood.calibrated import calibrated
from hoarfrost.prob_model.likelihood.given import given_means, given_variances
from hoarfrost.prob_model.likelihood.statistics import (
    check_aux,
    drawn,
    over_data,
    over_inputs,
    targets_shape,
)
from hoarfrost.prob_model.posterior.base import Posterior
from hoarfrost.prob_model.random import RandomNumberGenerator


class Predictive(ABC):
    """The predictive distribution ``p(y | x, D)``, by Monte Carlo over the posterior's weights.

    In every method N is the number of points of the loader, in the order in which its data were
    given (a shuffling loader too), C that of outputs, D that of targets of a point or of classes, S
    that of weight samples. The same `rng` gives the same result; without one the model's own stream
    gives the next key. Where outputs have positions, as in ``(N, T, C)`` of tokens, each of them is
    a point, and they stand in place of every N: ``(N, T)``. The weights are drawn once a call, for
    all points. Of a MAP posterior every sample is the MAP.

    `link` says how outputs follow from the posterior. "mc": under the network linearised about the
    MAP; "nn": through the network itself. By default "nn" for a last layer, where both are the
    same, and "mc" for any other parameters of a Laplace posterior, where draws through the network
    may be far off. A model that is calibrated is so under every link.

    `distribute` is accepted for code written for Fortuna: the devices of the fit share the work
    either way. Every method raises `NotFittedError` before the model is trained.
    """

    mixture: ClassVar[ModuleType]

    def __init__(
        self, posterior: Posterior, likelihood: ModelLikelihood, random: RandomNumberGenerator
    ) -> None:
        self.posterior = posterior
        self.likelihood: Any = likelihood
        self._random = random

    def log_prob(
        self,
        data_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Log-probability (of numbers, log-density) of each point's targets, shape ``(N,)``.

        Where targets have a mask, or the model an `ignored_label`, one for each that counts, in
        one axis.
        """
        check_switch("distribute", distribute)
        found = self._closed_log_prob(data_loader, link)
        if found is not None:
            return found
        statistic = self.mixture.log_prob
        return self._over_data(statistic, data_loader, n_posterior_samples, rng, link=link)

    def ensemble_log_prob(
        self,
        data_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """`log_prob` under each weight sample by itself, shape ``(S, N)``."""
        check_switch("distribute", distribute)
        values = self._over_data(
            self.mixture.ensemble_log_prob,
            data_loader,
            n_posterior_samples,
            rng,
            axis=1,
            link=link,
        )
        # A point mass is evaluated once, however many samples are asked for.
        return jnp.broadcast_to(values, (n_posterior_samples, *values.shape[1:]))

    def sample(
        self,
        inputs_loader: Any,
        n_target_samples: int = 1,
        return_aux: Sequence[str] | None = None,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> Any:
        """Targets drawn from the predictive, each from a weight sample of its own.

        Parameters
        ----------
        inputs_loader : InputsLoader
            Inputs.
        n_target_samples : int
            Draws for each point, S.
        return_aux : sequence of str, optional
            ``["outputs"]`` for the outputs that the targets were drawn from.
        rng : jax.Array or int, optional
            A key or a seed.
        distribute : bool
            See the class.

        Returns
        -------
        jax.Array
            Labels, int32, shape ``(S, N)``, or numbers, ``(S, N, D)``; with `return_aux` a pair of
            that and a dict with "outputs", shape ``(S, N, C)``.
        """
        check_switch("distribute", distribute)
        aux = check_aux(return_aux)
        check_counts(n_target_samples=n_target_samples)
        weights_key, targets_key = jax.random.split(self._key(rng))
        samples = self._samples(n_target_samples, weights_key, link)
        statistic = drawn(self.mixture.sample, n_target_samples, aux)
        found = over_inputs(
            self.likelihood.network, samples, statistic, inputs_loader, axis=1, key=targets_key
        )
        if not aux:
            return found
        targets, outputs = found
        return targets, {"outputs": jnp.broadcast_to(outputs, (len(targets), *outputs.shape[1:]))}

    def sample_calibrated_outputs(
        self,
        inputs_loader: Any,
        n_output_samples: int = 1,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Outputs under `n_output_samples` weight samples, shape ``(S, N, C)``.

        They are calibrated where the model is.
        """
        check_switch("distribute", distribute)
        check_counts(n_output_samples=n_output_samples)
        outputs = self._over_inputs(
            self.mixture.raw, inputs_loader, n_output_samples, rng, link=link, axis=1
        )
        return jnp.broadcast_to(outputs, (n_output_samples, *outputs.shape[1:]))

    def mean(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Mean of the targets (probabilities of the classes), shape ``(N, D)``."""
        check_switch("distribute", distribute)
        log_p = self._closed_log_probs(inputs_loader, link)
        if log_p is not None:
            return jnp.exp(log_p)
        statistic = self.mixture.mean
        return self._over_inputs(statistic, inputs_loader, n_posterior_samples, rng, link=link)

    def mode(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        means: jax.Array | None = None,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """The most probable class, shape ``(N,)``; of numbers the mean, ``(N, D)``.

        The mean is the mode where the predictive of numbers is nearly Gaussian. `means` are used
        where they are given.
        """
        check_switch("distribute", distribute)
        if means is None:
            return self._mode_of(self.mean(inputs_loader, n_posterior_samples, rng, link=link))
        return self._mode_of(given_means("means", means, self._targets_shape(inputs_loader)))

    def aleatoric_variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """``E_W[Var(Y | W)]``, the noise (for classes, of the one-hot label), shape ``(N, D)``."""
        check_switch("distribute", distribute)
        statistic = self.mixture.aleatoric_variance
        return self._over_inputs(statistic, inputs_loader, n_posterior_samples, rng, link=link)

    def epistemic_variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """``Var_W[E(Y | W)]`` (for classes, of the one-hot label), shape ``(N, D)``."""
        check_switch("distribute", distribute)
        statistic = self.mixture.epistemic_variance
        return self._over_inputs(statistic, inputs_loader, n_posterior_samples, rng, link=link)

    def variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        aleatoric_variances: jax.Array | None = None,
        epistemic_variances: jax.Array | None = None,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Aleatoric plus epistemic variance, shape ``(N, D)``; parts that are given are used."""
        check_switch("distribute", distribute)
        if aleatoric_variances is None and epistemic_variances is None:
            log_p = self._closed_log_probs(inputs_loader, link)
            if log_p is not None:
                means = jnp.exp(log_p)
                return means * (1 - means)
            statistic = self.mixture.variance
            return self._over_inputs(statistic, inputs_loader, n_posterior_samples, rng, link=link)
        key, shape = self._key(rng), self._targets_shape(inputs_loader)
        if aleatoric_variances is None:
            aleatoric = self.aleatoric_variance(inputs_loader, n_posterior_samples, key, link=link)
        else:
            aleatoric = given_variances("aleatoric_variances", aleatoric_variances, shape)
        if epistemic_variances is None:
            epistemic = self.epistemic_variance(inputs_loader, n_posterior_samples, key, link=link)
        else:
            epistemic = given_variances("epistemic_variances", epistemic_variances, shape)
        return aleatoric + epistemic

    def std(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        variances: jax.Array | None = None,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Square root of the variance, shape ``(N, D)``; of `variances` where they are given."""
        check_switch("distribute", distribute)
        if variances is None:
            return jnp.sqrt(self.variance(inputs_loader, n_posterior_samples, rng=rng, link=link))
        shape = self._targets_shape(inputs_loader)
        return jnp.sqrt(given_variances("variances", variances, shape))

    def _closed_log_probs(self, inputs_loader: Any, link: str | None) -> jax.Array | None:
        """Log-probabilities of all classes by a link in closed form; None if it is none."""
        return None

    def _closed_log_prob(self, data_loader: Any, link: str | None) -> jax.Array | None:
        """Log-probability of each target by a link in closed form; None if it is none."""
        return None

    @staticmethod
    @abstractmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        """The mode of targets with these means."""

    def _targets_shape(self, inputs_loader: Any) -> tuple[int, ...]:
        """Number of points, their positions, and targets (or classes) of each: ``(N, D)``."""
        state = self.posterior.state.get()
        at_point = point_mass(state.params, state.mutable or {})
        return targets_shape(self.likelihood.network, at_point, self.mixture.mean, inputs_loader)

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
        rng: jax.Array | int | None,
        *,
        link: str | None,
        axis: int = 0,
        precision: Precision = nullcontext,
    ) -> jax.Array:
        check_counts(n_posterior_samples=n_samples)
        samples = self._samples(n_samples, self._key(rng), link)
        network = self.likelihood.network
        found: jax.Array = over_inputs(
            network, samples, statistic, inputs_loader, axis=axis, precision=precision
        )
        return found

    def _over_data(
        self,
        statistic: Statistic,
        data_loader: Any,
        n_samples: int,
        rng: jax.Array | int | None,
        *,
        link: str | None,
        axis: int = 0,
    ) -> jax.Array:
        check_counts(n_posterior_samples=n_samples)
        samples = self._samples(n_samples, self._key(rng), link)
        network, output = self.likelihood.network, self.likelihood.output
        ignored = self.likelihood.ignored_label
        return over_data(
            network, samples, output, statistic, data_loader, axis=axis, ignored_label=ignored
        )

    def _key(self, rng: jax.Array | int | None) -> jax.Array:
        return self._random.get() if rng is None else check_key(rng)
