"""What the likelihoods of a model's targets have in common."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import jax

from hoarfrost.calibration import CalibrationStatistics, OutputCalibrator
from hoarfrost.predictive.weight_samples import Statistic, WeightSamples, point_mass
from hoarfrost.prob_model.likelihood.calibrated import calibrated
from hoarfrost.prob_model.likelihood.statistics import over_data, over_inputs
from hoarfrost.types import Tree


@dataclass(frozen=True)
class ModelLikelihood:
    """What a model says at one point of its parameters.

    `params` and `mutable` of every method are those of a state of the posterior, such as
    ``prob_model.posterior.state.get()`` or ``prob_model.posterior.sample()``. N is the number of
    points of a loader, in the order in which its data were given, C that of outputs, and D that of
    targets of a point or of classes. The arguments `calib_params` and `calib_mutable` are a state's
    too; without them outputs are not calibrated. With `distribute` true or false, one device does
    the work.

    Attributes
    ----------
    network : Network
        Gives the outputs.
    output : hoarfrost.likelihood.Likelihood
        The density of targets, given outputs.
    calibrator : OutputCalibrator or None
        What outputs go through where a method is given `calib_params`.
    """

    network: Any
    output: Any
    calibrator: OutputCalibrator | None = None

    mixture: ClassVar[ModuleType]
    calibration_statistics: ClassVar[CalibrationStatistics]

    def get_outputs(
        self, params: Tree, inputs_loader: Any, mutable: Tree = None, distribute: bool = True
    ) -> jax.Array:
        """Outputs, shape ``(N, C)``."""
        return self._over_inputs(self.mixture.raw, params, inputs_loader, mutable, axis=1)[0]

    def get_calibrated_outputs(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Calibrated outputs, shape ``(N, C)``."""
        found = self._over_inputs(
            self.mixture.raw, params, inputs_loader, mutable, calib_params, calib_mutable, axis=1
        )
        return found[0]

    def log_prob(
        self,
        params: Tree,
        data_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Log-probability (of numbers, log-density) of each point's targets, shape ``(N,)``."""
        samples = self._point(params, mutable, calib_params, calib_mutable)
        return over_data(self.network, samples, self.output, self.mixture.log_prob, data_loader)

    def mean(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Mean of the targets (probabilities of the classes), shape ``(N, D)``."""
        return self._over_inputs(
            self.mixture.mean, params, inputs_loader, mutable, calib_params, calib_mutable
        )

    def mode(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """The most probable class, shape ``(N,)``; of numbers the mean, a Gaussian's mode."""
        means = self.mean(params, inputs_loader, mutable, calib_params, calib_mutable)
        return self._mode_of(means)

    @staticmethod
    def predictions(outputs: jax.Array) -> jax.Array:
        """What metrics of training see."""
        raise NotImplementedError

    @staticmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        """The mode of targets with these means."""
        raise NotImplementedError

    def _point(
        self, params: Tree, mutable: Tree, calib_params: Tree, calib_mutable: Tree
    ) -> WeightSamples:
        """One point of the parameters, with calibrated outputs where there is a calibration."""
        at_point = point_mass(params, mutable or {})
        return calibrated(at_point, self.calibrator, calib_params, calib_mutable)

    def _over_inputs(
        self,
        statistic: Statistic,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        *,
        axis: int = 0,
    ) -> jax.Array:
        samples = self._point(params, mutable, calib_params, calib_mutable)
        return over_inputs(self.network, samples, statistic, inputs_loader, axis=axis)
