"""The predictive distribution of a regressor: a mixture of Gaussians over the posterior."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.likelihood import gaussian_mixture as mixture
from hoarfrost.prob_model.quantile import (
    IntervalType,
    Levels,
    check_levels,
    interval_levels,
    quantile_statistic,
)
from hoarfrost.prob_model.sampled import SampledPredictive
from hoarfrost.prob_model.statistics import Statistic, over_inputs
from hoarfrost.training.options import check_counts


class RegressionPredictive(SampledPredictive):
    """The predictive distribution ``p(y | x, D)``, by Monte Carlo over the posterior's weights.

    In every method N is the number of points of the loader, in the order in which its data were
    given (a shuffling loader too), D that of targets of a point, S that of weight samples. The
    same `rng` gives the same result; without one the model's own stream gives the next key. The
    weights are drawn once a call, for all points. Of a MAP posterior every sample is the MAP.

    `link` says how outputs follow from the weights. "mc": under the networks linearised about the
    MAP; "nn": through the networks themselves. By default "nn" for a last layer, where both are
    the same, and "mc" for any other parameters of a Laplace posterior, where draws through the
    networks may be far off. A model that is calibrated is so under either link.

    The predictive of each target is then a mixture of S Gaussians, of which means, variances and
    quantiles are exact.

    `distribute` is accepted for code written for Fortuna: one device does the work either way.
    Every method raises `NotFittedError` before the model is trained.
    """

    def log_prob(
        self,
        data_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Log-density of the targets of each point under the predictive, shape ``(N,)``."""
        return self._over_data(mixture.log_prob, data_loader, n_posterior_samples, rng, link=link)

    def ensemble_log_prob(
        self,
        data_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Log-density of the targets of each point under each weight sample, shape ``(S, N)``."""
        values = self._over_data(
            mixture.ensemble_log_prob, data_loader, n_posterior_samples, rng, axis=1, link=link
        )
        # A point mass is evaluated once, however many samples are asked for.
        return jnp.broadcast_to(values, (n_posterior_samples, values.shape[1]))

    def sample(
        self,
        inputs_loader: Any,
        n_target_samples: int = 1,
        return_aux: Sequence[str] | None = None,
        rng: jax.Array | None = None,
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
            ``["outputs"]`` for the means and log-variances that the targets were drawn from.
        rng : jax.Array, optional
            A key.
        distribute : bool
            See the class.

        Returns
        -------
        jax.Array
            Targets, shape ``(S, N, D)``; with `return_aux` a pair of that and a dict with
            "outputs", shape ``(S, N, 2 D)``.
        """
        aux = [] if return_aux is None else list(return_aux)
        unknown = [name for name in aux if name != "outputs"]
        if unknown:
            raise InvalidArgumentError(
                f"return_aux holds {unknown[0]!r}; the only auxiliary value is 'outputs'"
            )
        check_counts(n_target_samples=n_target_samples)
        weights_key, targets_key = jax.random.split(self._key(rng))
        samples = self._samples(n_target_samples, weights_key, link)
        statistic = _drawn(n_target_samples)
        network = self.likelihood.network
        targets = over_inputs(network, samples, statistic, inputs_loader, axis=1, key=targets_key)
        if not aux:
            return targets
        outputs = over_inputs(network, samples, mixture.raw, inputs_loader, axis=1)
        shape = (n_target_samples, *outputs.shape[1:])
        return targets, {"outputs": jnp.broadcast_to(outputs, shape)}

    def mean(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Mean of the targets, shape ``(N, D)``."""
        return self._over_inputs(mixture.mean, inputs_loader, n_posterior_samples, rng, link=link)

    def mode(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        means: jax.Array | None = None,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """The mean, shape ``(N, D)``, the mode where the predictive is nearly Gaussian.

        `means` is given back where it is given, as in Fortuna.
        """
        if means is None:
            return self.mean(inputs_loader, n_posterior_samples, rng, link=link)
        return jnp.asarray(means)

    def aleatoric_variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """``E_W[Var(Y | W)]``, the noise, shape ``(N, D)``."""
        return self._over_inputs(
            mixture.aleatoric_variance, inputs_loader, n_posterior_samples, rng, link=link
        )

    def epistemic_variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """``Var_W[E(Y | W)]``, shape ``(N, D)``."""
        return self._over_inputs(
            mixture.epistemic_variance, inputs_loader, n_posterior_samples, rng, link=link
        )

    def variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        aleatoric_variances: jax.Array | None = None,
        epistemic_variances: jax.Array | None = None,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Aleatoric plus epistemic variance, shape ``(N, D)``; parts that are given are used."""
        key = self._key(rng)
        if aleatoric_variances is None:
            aleatoric_variances = self.aleatoric_variance(
                inputs_loader, n_posterior_samples, key, link=link
            )
        if epistemic_variances is None:
            epistemic_variances = self.epistemic_variance(
                inputs_loader, n_posterior_samples, key, link=link
            )
        return jnp.asarray(aleatoric_variances) + jnp.asarray(epistemic_variances)

    def std(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        variances: jax.Array | None = None,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Square root of the variance, shape ``(N, D)``; of `variances` where they are given."""
        if variances is None:
            variances = self.variance(inputs_loader, n_posterior_samples, rng=rng, link=link)
        return jnp.sqrt(jnp.asarray(variances))

    def entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        n_target_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy of a point's targets together in nats, shape ``(N,)``.

        The sum of its two parts under the same weight samples, of which the epistemic one is by
        Monte Carlo over `n_target_samples` targets from each of the S Gaussians.
        """
        return self._entropy(
            mixture.entropy, inputs_loader, n_posterior_samples, n_target_samples, rng, link
        )

    def aleatoric_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        n_target_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Mean entropy under a weight sample in nats, shape ``(N,)``.

        A Gaussian's entropy has a closed form: `n_target_samples` is accepted for code written
        for Fortuna, checked, and changes nothing.
        """
        check_counts(n_target_samples=n_target_samples)
        return self._over_inputs(
            mixture.aleatoric_entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def epistemic_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        n_target_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy less aleatoric entropy: what targets and weights share, shape ``(N,)``.

        By Monte Carlo over `n_target_samples` targets from each of the S Gaussians.
        """
        return self._entropy(
            mixture.epistemic_entropy,
            inputs_loader,
            n_posterior_samples,
            n_target_samples,
            rng,
            link,
        )

    def quantile(
        self,
        q: Levels,
        inputs_loader: Any,
        n_target_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Quantiles of each target.

        Parameters
        ----------
        q : float or sequence of float
            Levels between 0 and 1, both excluded.
        inputs_loader : InputsLoader
            Inputs.
        n_target_samples : int
            Weight samples. The quantiles of the mixture of their Gaussians are exact: no targets
            are drawn.
        rng : jax.Array, optional
            A key.
        distribute : bool
            See the class.

        Returns
        -------
        jax.Array
            Shape ``(N, D)`` for a number `q`, ``(len(q), N, D)`` for a sequence.
        """
        levels, single = check_levels(q)
        check_counts(n_target_samples=n_target_samples)
        found = self._over_inputs(
            quantile_statistic(levels), inputs_loader, n_target_samples, rng, axis=1, link=link
        )
        return found[0] if single else found

    def credible_interval(
        self,
        inputs_loader: Any,
        n_target_samples: int = 30,
        error: float = 0.05,
        interval_type: IntervalType = "two-tailed",
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """An interval that holds the target with probability ``1 - error``.

        Parameters
        ----------
        inputs_loader : InputsLoader
            Inputs; the targets must be one number a point.
        n_target_samples : int
            Weight samples, as in `quantile`.
        error : float
            Probability outside of the interval, between 0 and 1, both excluded.
        interval_type : {"two-tailed", "left-tailed", "right-tailed"}
            Half of the error on either side, or all of it below or above.
        rng : jax.Array, optional
            A key.
        distribute : bool
            See the class.

        Returns
        -------
        jax.Array
            Lower and upper end, shape ``(N, 2)``; of a one-sided interval its finite end, lower
            for "left-tailed" and upper for "right-tailed", shape ``(N, 1)``.

        Raises
        ------
        ShapeError
            If there are several targets a point; `quantile` gives the ends for each of them.
        """
        levels = interval_levels(error, interval_type)
        ends = self.quantile(levels, inputs_loader, n_target_samples, rng, link=link)
        if ends.shape[2] != 1:
            raise ShapeError(
                f"credible_interval is for one target a point, and there are {ends.shape[2]}; "
                f"quantile({list(levels)}, ...) gives the ends for each"
            )
        return ends[:, :, 0].T

    def _entropy(
        self,
        statistic: Any,
        inputs_loader: Any,
        n_samples: int,
        n_targets: int,
        rng: Any,
        link: str | None,
    ) -> jax.Array:
        check_counts(n_posterior_samples=n_samples, n_target_samples=n_targets)
        key = self._key(rng)
        # The same weights as `aleatoric_entropy` draws, so that the parts add up.
        samples = self._samples(n_samples, key, link)
        return over_inputs(
            self.likelihood.network,
            samples,
            _with_targets(statistic, n_targets),
            inputs_loader,
            key=jax.random.fold_in(key, 1),
        )


@functools.cache
def _drawn(n_samples: int) -> Statistic:
    """`mixture.sample` for so many samples, also where a point mass has one set of outputs."""

    def drawn(outputs: jax.Array, key: jax.Array) -> jax.Array:
        return mixture.sample(jnp.broadcast_to(outputs, (n_samples, *outputs.shape[1:])), key)

    return drawn


@functools.lru_cache(maxsize=64)
def _with_targets(statistic: Any, n_target_samples: int) -> Statistic:
    """An entropy by so many draws of targets; the same function for the same arguments."""
    return functools.partial(statistic, n_target_samples=n_target_samples)
