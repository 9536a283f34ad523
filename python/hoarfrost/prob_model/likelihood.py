"""The likelihood of a classifier's targets at given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.calibration import CalibrationStatistics, OutputCalibrator
from hoarfrost.likelihood import Categorical, mixture
from hoarfrost.network import NamedNetwork
from hoarfrost.prob_model.calibrated import calibrated_point
from hoarfrost.prob_model.statistics import over_data, over_inputs
from hoarfrost.training.ensemble import point_mass

Tree = Any


@dataclass(frozen=True)
class ClassificationLikelihood:
    """What a classifier says at one point of its parameters.

    `params` and `mutable` of every method are those of a state of the posterior, such as
    ``prob_model.posterior.state.get()`` or ``prob_model.posterior.sample()``. N is the number of
    points of a loader, in the order in which its data were given, C that of classes. The arguments
    `calib_params` and `calib_mutable` are a state's too; without them outputs are not calibrated.
    With `distribute` true or false, one device does the work.

    Attributes
    ----------
    network : NamedNetwork
        The network.
    output : Categorical
        The density of a label, given outputs.
    calibrator : OutputCalibrator or None
        What outputs go through where a method is given `calib_params`.
    """

    network: NamedNetwork
    output: Categorical
    calibrator: OutputCalibrator | None = None

    calibration_statistics: ClassVar[CalibrationStatistics] = CalibrationStatistics(
        mixture.log_prob, mixture.mode, mixture.mean
    )

    @staticmethod
    def predictions(outputs: jax.Array) -> jax.Array:
        """The labels that metrics of training see."""
        return jnp.argmax(outputs, axis=1)

    def get_outputs(
        self, params: Tree, inputs_loader: Any, mutable: Tree = None, distribute: bool = True
    ) -> jax.Array:
        """Logits, shape ``(N, C)``."""
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
        """Calibrated logits, shape ``(N, C)``."""
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
        """Log-probability of each target, shape ``(N,)``."""
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
        """Probabilities of the classes, shape ``(N, C)``."""
        samples = calibrated_point(self.calibrator, params, mutable, calib_params, calib_mutable)
        return over_inputs(self.network, samples, mixture.mean, inputs_loader)

    def mode(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """The most probable class, shape ``(N,)``."""
        probabilities = self.mean(params, inputs_loader, mutable, calib_params, calib_mutable)
        return jax.numpy.asarray(np.argmax(probabilities, axis=1))
