"""The predictive distribution of a classifier: a mixture of categoricals over the posterior."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import (
    check_counts,
    check_probability,
    check_switch,
    is_choice,
    is_number,
    plain,
    shown,
)
from hoarfrost.conformal.add_one_in import add_one_in_sets
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.predictive import classes
from hoarfrost.predictive.link import closed_links
from hoarfrost.prob_model.predictive.base import Predictive
from hoarfrost.prob_model.predictive.closed_links import closed_log_prob, closed_log_probs


class ClassificationPredictive(Predictive):
    """The predictive distribution of labels, as `Predictive` describes it; C and D are the classes.

    `link` may also be "probit" or "bridge", which need no samples, so that `n_posterior_samples`
    and `rng` do not count: `mean`, `mode`, `log_prob`, `variance`, `std`, `entropy` and
    `credible_set` of a Laplace posterior take them. `distribute` is accepted for code written for
    Fortuna: the devices of the fit share the work either way.
    """

    mixture: ClassVar[ModuleType] = classes

    def entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy of the predictive in nats, shape ``(N,)``."""
        check_switch("distribute", distribute)
        log_p = self._closed_log_probs(inputs_loader, link)
        if log_p is not None:
            return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
        return self._over_inputs(
            classes.entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def aleatoric_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Mean entropy under a weight sample in nats, shape ``(N,)``."""
        check_switch("distribute", distribute)
        return self._over_inputs(
            classes.aleatoric_entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def epistemic_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy less aleatoric entropy: what label and weights share, shape ``(N,)``."""
        check_switch("distribute", distribute)
        return self._over_inputs(
            classes.epistemic_entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def credible_set(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        error: float = 0.05,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> np.ndarray:
        """The smallest set of classes that holds the label with probability ``1 - error``.

        Returns
        -------
        numpy.ndarray
            Shape ``(N,)``, with positions ``(N, T)``, dtype object: for each point a list of
            labels, the most probable first.
        """
        check_switch("distribute", distribute)
        error = plain(error)
        if not is_number(error) or not 0 <= error < 1:
            raise InvalidArgumentError(f"error is {shown(error)}; give a number from 0 to below 1")
        means = np.asarray(
            self.mean(inputs_loader, n_posterior_samples, rng, link=link), dtype=np.float64
        )
        points = means.shape[:-1]
        means = means.reshape(-1, means.shape[-1])
        order = np.argsort(-means, axis=1, kind="stable")
        covered = np.cumsum(np.take_along_axis(means, order, axis=1), axis=1)
        # All classes but the last that fall short, and one more; probabilities add up to nearly 1.
        sizes = 1 + np.sum(covered[:, :-1] < 1 - error, axis=1)
        sets = np.empty(len(means), dtype=object)
        sets[:] = [labels[:size].tolist() for labels, size in zip(order, sizes, strict=True)]
        return sets.reshape(points)

    def conformal_set(
        self,
        train_data_loader: Any,
        test_inputs_loader: Any,
        n_posterior_samples: int = 30,
        error: float = 0.05,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        return_ess: bool = False,
        *,
        link: str | None = None,
    ) -> Any:
        """Sets that hold the label with probability ``1 - error``, as the training data show.

        Full conformal sets without a second fit (Fong and Holmes, Conformal Bayesian Computation,
        2021): for each label that a test point may have, the posterior samples are reweighted as if
        that point had been a training point, and the label is kept where its probability is no
        outlier among those of the training labels. The guarantee is that of exact posteriors, of
        which `n_posterior_samples` are many: look at the effective sample sizes. A MAP posterior
        has one sample, of which training labels are more probable than others; for any model, with
        data held out for it, there is `hoarfrost.conformal`.

        Parameters
        ----------
        train_data_loader : DataLoader
            The training data, n points.
        test_inputs_loader : InputsLoader
            Inputs.
        n_posterior_samples : int
            Weight samples, S.
        error : float
            The probability that the label is left out, between 0 and 1, both excluded. Below
            ``1/(n + 1)`` every set holds all classes, and a warning says so.
        rng : jax.Array or int, optional
            A key or a seed.
        distribute : bool
            See the class.
        return_ess : bool
            Whether the effective sample sizes are given, too.
        link : {"mc", "nn"}, optional
            See the class.

        Returns
        -------
        numpy.ndarray or tuple
            Shape ``(N,)``, dtype object: for each point a list of labels in ascending order, which
            may be empty. With `return_ess` a pair of that and, float64, shape ``(N, C)``, how many
            of the S samples the weights of each label amount to.

        Raises
        ------
        InvalidArgumentError
            If `error` is none, or the link needs no samples.
        ShapeError
            If outputs have positions.
        """
        check_switch("distribute", distribute)
        check_switch("return_ess", return_ess)
        check_probability("error", error)
        check_counts(n_posterior_samples=n_posterior_samples)
        if is_choice(link, closed_links(self.likelihood.output)):
            raise InvalidArgumentError(
                f'link is {link!r}, which draws no samples to be reweighted; give "mc" or "nn"'
            )
        key = self._key(rng)  # the same weights for both
        outputs = self.sample_calibrated_outputs(
            test_inputs_loader, n_posterior_samples, key, link=link
        )
        if outputs.ndim != 3:
            raise ShapeError(
                "conformal_set is for one label a point, and each has positions of shape "
                f"{outputs.shape[2:-1]}, which are not exchangeable with one another; credible_set "
                "gives a set for each"
            )
        train = self.ensemble_log_prob(train_data_loader, n_posterior_samples, key, link=link)
        logits = np.asarray(outputs, dtype=np.float64)
        logits = logits - logits.max(axis=2, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        found, sizes = add_one_in_sets(np.asarray(train, dtype=np.float64), log_p, error)
        sets = np.empty(len(found), dtype=object)
        sets[:] = found
        return (sets, sizes) if return_ess else sets

    def _closed_log_probs(self, inputs_loader: Any, link: str | None) -> jax.Array | None:
        if not is_choice(link, closed_links(self.likelihood.output)):
            return None
        found = closed_log_probs(self.posterior, self.likelihood, inputs_loader, link)
        return jnp.asarray(found)

    def _closed_log_prob(self, data_loader: Any, link: str | None) -> jax.Array | None:
        if not is_choice(link, closed_links(self.likelihood.output)):
            return None
        return jnp.asarray(closed_log_prob(self.posterior, self.likelihood, data_loader, link))

    @staticmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        return jnp.argmax(means, axis=-1)
