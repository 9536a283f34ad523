"""The predictive distribution of a classifier: a mixture over posterior weight samples."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import mixture
from hoarfrost.prob_model.closed_links import CLOSED, closed_log_prob, closed_log_probs
from hoarfrost.prob_model.sampled import SampledPredictive
from hoarfrost.prob_model.statistics import Statistic, over_inputs
from hoarfrost.training.options import check_counts


class ClassificationPredictive(SampledPredictive):
    """The predictive distribution ``p(y | x, D)``, by Monte Carlo over the posterior's weights.

    In every method N is the number of points of the loader, in the order in which its data were
    given (a shuffling loader too), C that of classes, S that of weight samples. The same `rng`
    gives the same result; without one the model's own stream gives the next key. The weights are
    drawn once a call, for all points. Of a MAP posterior every sample is the MAP.

    `link` says how outputs follow from the posterior. "mc": under the network linearised about the
    MAP; "nn": through the network itself. By default "nn" for a last layer, where both are the
    same, and "mc" for any other parameters of a Laplace posterior, where draws through the network
    may be far off. "probit" and "bridge" need no samples, so that `n_posterior_samples` and `rng`
    do not count: `mean`, `mode`, `log_prob`, `variance`, `std`, `entropy` and `credible_set` of a
    Laplace posterior take them. A model that is calibrated is so under every link.

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
        """Log-probability of each target under the predictive, shape ``(N,)``."""
        if link in CLOSED:
            return jnp.asarray(closed_log_prob(self.posterior, self.likelihood, data_loader, link))
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
        """Log-probability of each target under each weight sample, shape ``(S, N)``."""
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
        """Labels drawn from the predictive, each from a weight sample of its own.

        Parameters
        ----------
        inputs_loader : InputsLoader
            Inputs.
        n_target_samples : int
            Labels for each point, S.
        return_aux : sequence of str, optional
            ``["outputs"]`` for the logits that the labels were drawn from.
        rng : jax.Array, optional
            A key.
        distribute : bool
            See the class.

        Returns
        -------
        jax.Array
            Labels, int32, shape ``(S, N)``; with `return_aux` a pair of that and a dict with
            "outputs", shape ``(S, N, C)``.
        """
        aux = [] if return_aux is None else list(return_aux)
        unknown = [name for name in aux if name != "outputs"]
        if unknown:
            raise InvalidArgumentError(
                f"return_aux holds {unknown[0]!r}; the only auxiliary value is 'outputs'"
            )
        check_counts(n_target_samples=n_target_samples)
        weights_key, labels_key = jax.random.split(self._key(rng))
        samples = self._samples(n_target_samples, weights_key, link)
        statistic = _drawn(n_target_samples)
        network = self.likelihood.network
        labels = over_inputs(network, samples, statistic, inputs_loader, axis=1, key=labels_key)
        if not aux:
            return labels
        outputs = over_inputs(network, samples, mixture.raw, inputs_loader, axis=1)
        return labels, {"outputs": jnp.broadcast_to(outputs, (*labels.shape, outputs.shape[2]))}

    def mean(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Probabilities of the classes, shape ``(N, C)``."""
        if link in CLOSED:
            return jnp.exp(self._closed_log_probs(inputs_loader, link))
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
        """The most probable class, shape ``(N,)``; of `means` where they are given."""
        if means is None:
            means = self.mean(inputs_loader, n_posterior_samples, rng, link=link)
        return jnp.argmax(jnp.asarray(means), axis=1)

    def aleatoric_variance(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """``E_W[Var(Y | W)]`` of the one-hot label, shape ``(N, C)``."""
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
        """``Var_W[E(Y | W)]`` of the one-hot label, shape ``(N, C)``."""
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
        """Aleatoric plus epistemic variance, shape ``(N, C)``; parts that are given are used."""
        if link in CLOSED and aleatoric_variances is None and epistemic_variances is None:
            means = jnp.exp(self._closed_log_probs(inputs_loader, link))
            return means * (1 - means)
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
        """Square root of the variance, shape ``(N, C)``; of `variances` where they are given."""
        if variances is None:
            variances = self.variance(inputs_loader, n_posterior_samples, rng=rng, link=link)
        return jnp.sqrt(jnp.asarray(variances))

    def entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy of the predictive in nats, shape ``(N,)``."""
        if link in CLOSED:
            log_p = self._closed_log_probs(inputs_loader, link)
            return -jnp.sum(jnp.exp(log_p) * log_p, axis=1)
        return self._over_inputs(
            mixture.entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def aleatoric_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Mean entropy under a weight sample in nats, shape ``(N,)``."""
        return self._over_inputs(
            mixture.aleatoric_entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def epistemic_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy less aleatoric entropy: what label and weights share, shape ``(N,)``."""
        return self._over_inputs(
            mixture.epistemic_entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def credible_set(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        error: float = 0.05,
        rng: jax.Array | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> np.ndarray:
        """The smallest set of classes that holds the label with probability ``1 - error``.

        Returns
        -------
        numpy.ndarray
            Shape ``(N,)``, dtype object: for each point a list of labels, the most probable first.
        """
        number = isinstance(error, int | float | np.floating) and not isinstance(error, bool)
        if not number or not 0 <= error < 1:
            raise InvalidArgumentError(f"error is {error!r}; give a number from 0 to below 1")
        means = np.asarray(
            self.mean(inputs_loader, n_posterior_samples, rng, link=link), dtype=np.float64
        )
        order = np.argsort(-means, axis=1, kind="stable")
        covered = np.cumsum(np.take_along_axis(means, order, axis=1), axis=1)
        # All classes but the last that fall short, and one more; probabilities add up to nearly 1.
        sizes = 1 + np.sum(covered[:, :-1] < 1 - error, axis=1)
        sets = np.empty(len(means), dtype=object)
        sets[:] = [labels[:size].tolist() for labels, size in zip(order, sizes, strict=True)]
        return sets

    def _closed_log_probs(self, inputs_loader: Any, link: str) -> jax.Array:
        return jnp.asarray(closed_log_probs(self.posterior, self.likelihood, inputs_loader, link))


@functools.cache
def _drawn(n_samples: int) -> Statistic:
    """`mixture.sample` for so many samples; the same function for the same number.

    A point mass has one set of outputs, from which all labels are drawn.
    """

    def drawn(outputs: jax.Array, key: jax.Array) -> jax.Array:
        return mixture.sample(jnp.broadcast_to(outputs, (n_samples, *outputs.shape[1:])), key)

    return drawn
