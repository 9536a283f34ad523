"""The likelihood of a regressor's targets at given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hoarfrost.calibration import CalibrationStatistics, OutputCalibrator
from hoarfrost.joined_network import JoinedNetwork
from hoarfrost.likelihood import HeteroscedasticGaussian
from hoarfrost.likelihood import gaussian_mixture as mixture
from hoarfrost.likelihood.heteroscedastic import split_outputs
from hoarfrost.prob_model.calibrated import calibrated_point
from hoarfrost.prob_model.quantile import Levels, check_levels, quantile_statistic
from hoarfrost.prob_model.statistics import Statistic, over_data, over_inputs
from hoarfrost.training.ensemble import point_mass

Tree = Any


@dataclass(frozen=True)
class RegressionLikelihood:
    """What a regressor says at one point of its parameters.

    `params` and `mutable` of every method are those of a state of the posterior, such as
    ``prob_model.posterior.state.get()`` or ``prob_model.posterior.sample()``. N is the number of
    points of a loader, in the order in which its data were given, D that of targets of a point (1
    where targets have shape ``(N,)``). The arguments `calib_params` and `calib_mutable` are
    a state's too; without them outputs are not calibrated. With `distribute` true or false, one
    device does the work.

    Attributes
    ----------
    network : JoinedNetwork
        The mean network and the log-variance network.
    output : HeteroscedasticGaussian
        The density of targets, given outputs.
    calibrator : OutputCalibrator or None
        What outputs go through where a method is given `calib_params`.
    """

    network: JoinedNetwork
    output: HeteroscedasticGaussian
    calibrator: OutputCalibrator | None = None

    calibration_statistics: ClassVar[CalibrationStatistics] = CalibrationStatistics(
        mixture.log_prob, mixture.mean, mixture.variance
    )

    @staticmethod
    def predictions(outputs: jax.Array) -> jax.Array:
        """The means that metrics of training see, shape ``(batch, D)``."""
        return split_outputs(outputs)[0]

    def get_outputs(
        self, params: Tree, inputs_loader: Any, mutable: Tree = None, distribute: bool = True
    ) -> jax.Array:
        """Means and log-variances side by side, shape ``(N, 2 D)``."""
        samples = point_mass(params, mutable or {})
        return over_inputs(self.network, samples, mixture.raw, inputs_loader, axis=1)[0]

    def get_calibrated_outputs(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Means and calibrated log-variances side by side, shape ``(N, 2 D)``."""
        samples = calibrated_point(self.calibrator, params, mutable, calib_params, calib_mutable)
        return over_inputs(self.network, samples, mixture.raw, inputs_loader, axis=1)[0]

    def log_prob(
        self,
        params: Tree,
        data_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Log-density of the targets of each point, shape ``(N,)``."""
        samples = calibrated_point(self.calibrator, params, mutable, calib_params, calib_mutable)
        return over_data(self.network, samples, self.output, mixture.log_prob, data_loader)

    def mean(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Mean of the targets, shape ``(N, D)``."""
        calibration = (calib_params, calib_mutable)
        return self._over_inputs(mixture.mean, params, inputs_loader, mutable, calibration)

    def mode(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """The mean, which is a Gaussian's mode, shape ``(N, D)``."""
        return self.mean(params, inputs_loader, mutable, calib_params, calib_mutable)

    def variance(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Variance of the targets, shape ``(N, D)``."""
        statistic, calibration = mixture.aleatoric_variance, (calib_params, calib_mutable)
        return self._over_inputs(statistic, params, inputs_loader, mutable, calibration)

    def std(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        variance: jax.Array | None = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Square root of the variance, shape ``(N, D)``; of `variance` where it is given."""
        if variance is None:
            variance = self.variance(params, inputs_loader, mutable, calib_params, calib_mutable)
        return jnp.sqrt(jnp.asarray(variance))

    def entropy(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Entropy of a point's targets together in nats, shape ``(N,)``."""
        statistic, calibration = mixture.aleatoric_entropy, (calib_params, calib_mutable)
        return self._over_inputs(statistic, params, inputs_loader, mutable, calibration)

    def quantile(
        self,
        q: Levels,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Quantiles of each target, in closed form.

        Shape ``(N, D)`` for a number `q`, ``(len(q), N, D)`` for a sequence.
        """
        levels, single = check_levels(q)
        samples = calibrated_point(self.calibrator, params, mutable, calib_params, calib_mutable)
        statistic = quantile_statistic(levels)
        found = over_inputs(self.network, samples, statistic, inputs_loader, axis=1)
        return found[0] if single else found

    def _over_inputs(
        self,
        statistic: Statistic,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree,
        calibration: tuple[Any, Any],
    ) -> jax.Array:
        samples = calibrated_point(self.calibrator, params, mutable, *calibration)
        return over_inputs(self.network, samples, statistic, inputs_loader)
