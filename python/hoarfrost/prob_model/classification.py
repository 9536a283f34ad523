"""A network that says which class an input belongs to, and how sure it is."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from hoarfrost.calibration import ClassificationTemperatureScaler
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Categorical
from hoarfrost.likelihood.points import check_ignored_label
from hoarfrost.network import Call, NamedNetwork, given_module, interned
from hoarfrost.prior import IsotropicGaussianPrior, Prior, check_prior
from hoarfrost.prob_model.base import ProbModel
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.likelihood import ClassificationLikelihood
from hoarfrost.prob_model.likelihood.calibrated import as_calibrator
from hoarfrost.prob_model.posterior.laplace import LaplacePosteriorApproximator
from hoarfrost.prob_model.posterior.registry import method_of
from hoarfrost.prob_model.predictive import ClassificationPredictive
from hoarfrost.prob_model.random import RandomNumberGenerator

# A module without parameters of its own: those are in the state.
_TEMPERATURE_SCALER = ClassificationTemperatureScaler()


class ProbClassifier(ProbModel):
    """A Flax network as a probabilistic classifier.

    Labels are whole numbers in ``0..C-1``, C being the number of the network's outputs; a class
    may be missing from the training data.

    Parameters
    ----------
    model : flax.linen.Module, flax.nnx.Module or callable
        Maps inputs to logits of shape ``(batch, C)``, or with positions, ``(batch, T, C)`` of
        tokens or ``(batch, H, W, C)`` of pixels: each is a data point then, with a target. Its
        ``__call__`` may take `train`. Training starts from the parameters that an NNX module holds,
        and leaves the module as it is (``posterior.write_to`` puts the result into it); a function
        or class that makes one, called with ``rngs=nnx.Rngs(...)``, starts anew.
    prior : IsotropicGaussianPrior, DiagonalGaussianPrior or Prior, optional
        Over all parameters; a standard normal by default.
    posterior_approximator : optional
        ``LaplacePosteriorApproximator()``, the default, or another of `hoarfrost.prob_model`.
    output_calibrator : flax.linen.Module, optional
        What calibration fits, a module that maps outputs to outputs; temperature scaling by
        default. None: the model cannot be calibrated.
    model_editor : None
        Not available in this version; anything but None is an error.
    seed : int or jax.Array
        Of initialisation, dropout, and every draw that is given no key of its own.
    call : callable, optional
        ``call(module, inputs)``, done with the model instead of calling it, as in
        `hoarfrost.fit_laplace`.
    ignored_label : int, optional
        Data points with this label (often -100) do not count, in training, posterior, calibration
        and densities. Targets may also come as pairs ``(targets, mask)``, the mask True where a
        target counts. Predictions are given for all points.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    def __init__(
        self,
        model: Any,
        prior: Prior | None = None,
        posterior_approximator: Any = None,
        output_calibrator: nn.Module | None = _TEMPERATURE_SCALER,
        model_editor: None = None,
        seed: int | jax.Array = 0,
        *,
        call: Call | None = None,
        ignored_label: int | None = None,
    ) -> None:
        if posterior_approximator is None:
            posterior_approximator = LaplacePosteriorApproximator()
        method = method_of(posterior_approximator)
        module = method.module(posterior_approximator, given_module(model, call))
        if model_editor is not None:
            raise InvalidArgumentError(
                f"model_editor is {model_editor!r}, but this version has none; leave it out"
            )
        prior = IsotropicGaussianPrior() if prior is None else prior
        check_prior(prior)
        random = RandomNumberGenerator(seed)
        network = interned(NamedNetwork("model", module.network))
        likelihood = ClassificationLikelihood(
            network,
            Categorical(),
            as_calibrator(output_calibrator),
            random,
            check_ignored_label(ignored_label, Categorical()),
        )
        joint = Joint(prior, likelihood, {"model": module}, random, method.initialisation_draw)
        super().__init__(joint, method.make(joint, posterior_approximator))
        self.model = model
        self.predictive: Any = ClassificationPredictive(self.posterior, likelihood, joint.random)
