"""What the likelihoods of a model's targets have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from hoarfrost.calibration import CalibrationStatistics, OutputCalibrator
from hoarfrost.checks import check_count, check_key, check_switch
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.predictive.weight_samples import Precision, Statistic, WeightSamples, point_mass
from hoarfrost.prob_model.likelihood.calibrated import calibrated, sound_variables
from hoarfrost.prob_model.likelihood.given import given_variances
from hoarfrost.prob_model.likelihood.statistics import (
    check_aux,
    drawn,
    over_data,
    over_inputs,
    targets_shape,
)
from hoarfrost.prob_model.random import RandomNumberGenerator
from hoarfrost.types import Tree


@dataclass(frozen=True)
class ModelLikelihood(ABC):
    """What a model says at one point of its parameters.

    `params` and `mutable` of every method are those of a state of the posterior, such as
    ``prob_model.posterior.state.get()`` or ``prob_model.posterior.sample()``. N is the number of
    points of a loader, in the order in which its data were given, C that of outputs, and D that of
    targets of a point or of classes. Where outputs have positions, as in ``(N, T, C)`` of tokens,
    these stand in place of every N: ``(N, T)``. The arguments `calib_params` and `calib_mutable`
    are a state's too; without them outputs are not calibrated. With `distribute` true or false, one
    device does the work.

    Attributes
    ----------
    network : Network
        Gives the outputs.
    output : hoarfrost.likelihood.Likelihood
        The density of targets, given outputs.
    calibrator : OutputCalibrator or None
        What outputs go through where a method is given `calib_params`.
    random : RandomNumberGenerator or None
        The model's keys, for draws that are given none.
    ignored_label : int or None
        Targets with this label do not count.
    """

    network: Any
    output: Any
    calibrator: OutputCalibrator | None = None
    random: RandomNumberGenerator | None = field(default=None, compare=False, repr=False)
    ignored_label: int | None = None

    mixture: ClassVar[ModuleType]
    calibration_statistics: ClassVar[CalibrationStatistics]

    @property
    def _networks(self) -> tuple[str, ...]:
        """Names under which parameters stand."""
        network = self.network
        parts = (network,) if hasattr(network, "name") else (network.mean, network.log_variance)
        return tuple(part.name for part in parts)

    def get_outputs(
        self, params: Tree, inputs_loader: Any, mutable: Tree = None, distribute: bool = True
    ) -> jax.Array:
        """Outputs, shape ``(N, C)``."""
        check_switch("distribute", distribute)
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
        check_switch("distribute", distribute)
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
        """Log-probability (of numbers, log-density) of each point's targets, shape ``(N,)``.

        Where targets have a mask, or the model an `ignored_label`, one for each that counts, in
        one axis.
        """
        check_switch("distribute", distribute)
        samples = self._point(params, mutable, calib_params, calib_mutable)
        return over_data(
            self.network,
            samples,
            self.output,
            self.mixture.log_prob,
            data_loader,
            ignored_label=self.ignored_label,
        )

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
        check_switch("distribute", distribute)
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
        check_switch("distribute", distribute)
        means = self.mean(params, inputs_loader, mutable, calib_params, calib_mutable)
        return self._mode_of(means)

    def variance(
        self,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        distribute: bool = True,
    ) -> jax.Array:
        """Variance of the targets (for classes, of the one-hot label), shape ``(N, D)``."""
        check_switch("distribute", distribute)
        statistic = self.mixture.aleatoric_variance
        return self._over_inputs(
            statistic, params, inputs_loader, mutable, calib_params, calib_mutable
        )

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
        check_switch("distribute", distribute)
        if variance is None:
            variance = self.variance(params, inputs_loader, mutable, calib_params, calib_mutable)
            return jnp.sqrt(variance)
        at_point = self._point(params, mutable, calib_params, calib_mutable)
        shape = targets_shape(self.network, at_point, self.mixture.mean, inputs_loader)
        return jnp.sqrt(given_variances("variance", variance, shape))

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
        check_switch("distribute", distribute)
        statistic = self.mixture.aleatoric_entropy
        return self._over_inputs(
            statistic, params, inputs_loader, mutable, calib_params, calib_mutable
        )

    def sample(
        self,
        n_target_samples: int,
        params: Tree,
        inputs_loader: Any,
        mutable: Tree = None,
        calib_params: Tree = None,
        calib_mutable: Tree = None,
        return_aux: Sequence[str] | None = None,
        rng: jax.Array | int | None = None,
        distribute: bool = True,
    ) -> Any:
        """Targets drawn at these parameters.

        Parameters
        ----------
        n_target_samples : int
            Draws for each point, S.
        params, inputs_loader, mutable, calib_params, calib_mutable, distribute
            See the class.
        return_aux : sequence of str, optional
            ``["outputs"]`` for the outputs that the targets were drawn from.
        rng : jax.Array or int, optional
            A key or a seed; by default the next key of the model's own stream.

        Returns
        -------
        jax.Array
            Labels, int32, shape ``(S, N)``, or numbers, ``(S, N, D)``; with `return_aux` a pair of
            that and a dict with "outputs", shape ``(N, C)``.
        """
        check_switch("distribute", distribute)
        n_samples = check_count("n_target_samples", n_target_samples, 1)
        wants_outputs = check_aux(return_aux)
        if rng is None and self.random is None:
            raise InvalidArgumentError("rng is None, and this likelihood has no model; give a key")
        key = check_key(rng) if self.random is None or rng is not None else self.random.get()
        samples = self._point(params, mutable, calib_params, calib_mutable)
        statistic = drawn(self.mixture.sample, n_samples, wants_outputs)
        found = over_inputs(self.network, samples, statistic, inputs_loader, axis=1, key=key)
        return (found[0], {"outputs": found[1][0]}) if wants_outputs else found

    @staticmethod
    @abstractmethod
    def predictions(outputs: jax.Array) -> jax.Array:
        """What metrics of training see."""

    @staticmethod
    @abstractmethod
    def _mode_of(means: jax.Array) -> jax.Array:
        """The mode of targets with these means."""

    def _point(
        self, params: Tree, mutable: Tree, calib_params: Tree, calib_mutable: Tree
    ) -> WeightSamples:
        """One point of the parameters, with calibrated outputs where there is a calibration."""
        params = sound_variables("params", params, self._networks)
        if mutable is not None and not (isinstance(mutable, Mapping) and not mutable):
            held = [n for n in self._networks if isinstance(mutable, Mapping) and n in mutable]
            mutable = sound_variables("mutable", mutable, held or self._networks)
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
        precision: Precision = nullcontext,
    ) -> jax.Array:
        samples = self._point(params, mutable, calib_params, calib_mutable)
        return over_inputs(
            self.network, samples, statistic, inputs_loader, axis=axis, precision=precision
        )
