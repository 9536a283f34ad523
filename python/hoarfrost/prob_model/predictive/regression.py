"""The predictive distribution of a regressor: a mixture of Gaussians over the posterior."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hoarfrost.checks import check_counts, check_switch
from hoarfrost.dtypes import in_float64
from hoarfrost.errors import ShapeError
from hoarfrost.predictive import numbers
from hoarfrost.predictive.quantile import (
    IntervalType,
    Levels,
    check_levels,
    interval_levels,
    quantile_statistic,
)
from hoarfrost.predictive.weight_samples import Statistic
from hoarfrost.prob_model.likelihood.statistics import over_inputs
from hoarfrost.prob_model.predictive.base import Predictive


class RegressionPredictive(Predictive):
    """The predictive distribution of numbers, as `Predictive` describes it.

    Outputs are means and log-variances side by side: C is 2 D. The predictive of each target is a
    mixture of S Gaussians, of which means, variances and quantiles are exact. `distribute` is
    accepted for code written for Fortuna: the devices of the fit share the work either way.
    """

    mixture: ClassVar[ModuleType] = numbers

    @staticmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        return means

    def entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        n_target_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy of a point's targets together in nats, shape ``(N,)``.

        The sum of its two parts under the same weight samples, of which the epistemic one is by
        Monte Carlo over `n_target_samples` targets from each of the S Gaussians.
        """
        check_switch("distribute", distribute)
        return self._entropy(
            numbers.entropy, inputs_loader, n_posterior_samples, n_target_samples, rng, link
        )

    def aleatoric_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        n_target_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Mean entropy under a weight sample in nats, shape ``(N,)``.

        A Gaussian's entropy has a closed form: `n_target_samples` is accepted for code written
        for Fortuna, checked, and changes nothing.
        """
        check_switch("distribute", distribute)
        check_counts(n_target_samples=n_target_samples)
        return self._over_inputs(
            numbers.aleatoric_entropy, inputs_loader, n_posterior_samples, rng, link=link
        )

    def epistemic_entropy(
        self,
        inputs_loader: Any,
        n_posterior_samples: int = 30,
        n_target_samples: int = 30,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
        *,
        link: str | None = None,
    ) -> jax.Array:
        """Entropy less aleatoric entropy: what targets and weights share, shape ``(N,)``.

        By Monte Carlo over `n_target_samples` targets from each of the S Gaussians.
        """
        check_switch("distribute", distribute)
        return self._entropy(
            numbers.epistemic_entropy,
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
        rng: jax.Array | int | None = None,
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
        rng : jax.Array or int, optional
            A key or a seed.
        distribute : bool
            See the class.

        Returns
        -------
        jax.Array
            Shape ``(N, D)`` for a number `q`, ``(len(q), N, D)`` for a sequence.
        """
        check_switch("distribute", distribute)
        levels, single = check_levels(q)
        check_counts(n_target_samples=n_target_samples)
        found = self._over_inputs(
            quantile_statistic(levels),
            inputs_loader,
            n_target_samples,
            rng,
            axis=1,
            link=link,
            precision=in_float64,
        )
        return found[0] if single else found

    def credible_interval(
        self,
        inputs_loader: Any,
        n_target_samples: int = 30,
        error: float = 0.05,
        interval_type: IntervalType = "two-tailed",
        rng: jax.Array | int | None = None,
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
        rng : jax.Array or int, optional
            A key or a seed.
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
        check_switch("distribute", distribute)
        levels = interval_levels(error, interval_type)
        ends = self.quantile(levels, inputs_loader, n_target_samples, rng, link=link)
        if ends.shape[-1] != 1:
            raise ShapeError(
                f"credible_interval is for one target a point, and there are {ends.shape[-1]}; "
                f"quantile({list(levels)}, ...) gives the ends for each"
            )
        return jnp.moveaxis(ends[..., 0], 0, -1)

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


@functools.lru_cache(maxsize=64)
def _with_targets(statistic: Any, n_target_samples: int) -> Statistic:
    """An entropy by so many draws of targets; the same function for the same arguments."""
    return functools.partial(statistic, n_target_samples=n_target_samples)
