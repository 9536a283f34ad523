"""The likelihood of a classifier's targets at given parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Categorical, mixture
from hoarfrost.network import NamedNetwork
from hoarfrost.prob_model.statistics import over_data, over_inputs
from hoarfrost.training.ensemble import point_mass

Tree = Any


@dataclass(frozen=True)
class ClassificationLikelihood:
    """What a classifier says at one point of its parameters.

    `params` and `mutable` of every method are those of a state of the posterior, such as
    ``prob_model.posterior.state.get()`` or ``prob_model.posterior.sample()``. N is the number of
    points of a loader, in the order in which its data were given, C that of classes. The arguments
    `calib_params` and `calib_mutable` must be None: this version has no calibrator. With
    `distribute` true or false, one device does the work.

    Attributes
    ----------
    network : NamedNetwork
        The network.
    output : Categorical
        The density of a label, given outputs.
    """

    network: NamedNetwork
    output: Categorical

    def get_outputs(
        self, params: Tree, inputs_loader: Any, mutable: Tree = None, distribute: bool = True
    ) -> jax.Array:
        """Logits, shape ``(N, C)``."""
        samples = point_mass(params, mutable or {})
        return over_inputs(self.network, samples, mixture.raw, inputs_loader, axis=1)[0]

    def log_prob(
        self,
        params: Tree,
        data_loader: Any,
        mutable: Tree = None,
        calib_params: None = None,
        calib_mutable: None = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Log-probability of each target, shape ``(N,)``."""
        _check_no_calibration(calib_params, calib_mutable)
        samples = point_mass(params, mutable or {})
        return over_data(self.network, samples, self.output, mixture.log_prob, data_loader)

    def mean(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: None = None,
        calib_mutable: None = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Probabilities of the classes, shape ``(N, C)``."""
        _check_no_calibration(calib_params, calib_mutable)
        samples = point_mass(params, mutable or {})
        return over_inputs(self.network, samples, mixture.mean, inputs_loader)

    def mode(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: None = None,
        calib_mutable: None = None,
        distribute: bool = True,
    ) -> jax.Array:
        """The most probable class, shape ``(N,)``."""
        probabilities = self.mean(params, inputs_loader, mutable, calib_params, calib_mutable)
        return jax.numpy.asarray(np.argmax(probabilities, axis=1))


def _check_no_calibration(calib_params: Any, calib_mutable: Any) -> None:
    for name, value in (("calib_params", calib_params), ("calib_mutable", calib_mutable)):
        if value is not None:
            raise InvalidArgumentError(
                f"{name} was given, but output calibration is not available in this version; leave "
                "it out"
            )
