"""A network that predicts numbers, and how sure it is."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from hoarfrost.calibration import RegressionTemperatureScaler
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import HeteroscedasticGaussian
from hoarfrost.network import Call, JoinedNetwork, NamedNetwork, given_module, interned
from hoarfrost.prior import IsotropicGaussianPrior, Prior, check_prior
from hoarfrost.prob_model.base import ProbModel
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.likelihood.calibrated import as_calibrator
from hoarfrost.prob_model.likelihood.regression import RegressionLikelihood
from hoarfrost.prob_model.posterior.laplace import LaplacePosteriorApproximator
from hoarfrost.prob_model.posterior.registry import method_of
from hoarfrost.prob_model.predictive.regression import RegressionPredictive
from hoarfrost.prob_model.random import RandomNumberGenerator

# A module without parameters of its own: those are in the state.
_TEMPERATURE_SCALER = RegressionTemperatureScaler()


class ProbRegressor(ProbModel):
    """Two Flax networks as a probabilistic regressor: one for the mean, one for the noise.

    Targets have shape ``(N, D)``, or ``(N,)`` where D is 1; predictions always have shape ``(N,
    D)``. Where the networks' outputs have positions, as in ``(batch, T, D)``, each is a data point,
    and N stands for ``(N, T)``; targets may come as pairs ``(targets, mask)``, the mask True where
    a point counts. Given the parameters a target is Gaussian, with the mean that `model` and the
    log-variance that `likelihood_log_variance_model` predicts. Their parameters stand under "model"
    and "lik_log_var", which is also where the path begins that a freeze function sees.

    Parameters
    ----------
    model : flax.linen.Module, flax.nnx.Module or callable
        Maps inputs to means of shape ``(batch, D)``. Its ``__call__`` may take `train`. Training
        starts from the parameters that an NNX module holds, and leaves the module as it is
        (``posterior.write_to`` puts the result into it); a function or class that makes one,
        called with ``rngs=nnx.Rngs(...)``, starts anew.
    likelihood_log_variance_model : flax.linen.Module, flax.nnx.Module or callable
        Maps the same inputs to logarithms of the noise variance, shape ``(batch, D)``.
    prior : IsotropicGaussianPrior, DiagonalGaussianPrior or Prior, optional
        Over all parameters of both networks; a standard normal by default.
    posterior_approximator : optional
        ``LaplacePosteriorApproximator()``, the default, or another of `hoarfrost.prob_model`.
    output_calibrator : flax.linen.Module, optional
        What calibration fits, a module that maps outputs to outputs; temperature scaling by
        default. None: the model cannot be calibrated.
    model_editor : None
        Not available in this version; anything but None is an error.
    seed : int or jax.Array
        Of initialisation, dropout, and every draw that is given no key of its own.
    call, log_variance_call : callable, optional
        ``call(module, inputs)``, done with the one or the other model instead of calling it, as in
        `hoarfrost.fit_laplace`.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    def __init__(
        self,
        model: Any,
        likelihood_log_variance_model: Any,
        prior: Prior | None = None,
        posterior_approximator: Any = None,
        output_calibrator: nn.Module | None = _TEMPERATURE_SCALER,
        model_editor: None = None,
        seed: int | jax.Array = 0,
        *,
        call: Call | None = None,
        log_variance_call: Call | None = None,
    ) -> None:
        if posterior_approximator is None:
            posterior_approximator = LaplacePosteriorApproximator()
        method = method_of(posterior_approximator)
        modules = {
            "model": method.module(posterior_approximator, given_module(model, call)),
            "lik_log_var": given_module(
                likelihood_log_variance_model,
                log_variance_call,
                argument="likelihood_log_variance_model",
                call_argument="log_variance_call",
            ),
        }
        if model_editor is not None:
            raise InvalidArgumentError(
                f"model_editor is {model_editor!r}, but this version has none; leave it out"
            )
        prior = IsotropicGaussianPrior() if prior is None else prior
        check_prior(prior)
        random = RandomNumberGenerator(seed)
        named = (NamedNetwork(name, module.network) for name, module in modules.items())
        network = interned(JoinedNetwork(*named))
        likelihood = RegressionLikelihood(
            network, HeteroscedasticGaussian(), as_calibrator(output_calibrator), random
        )
        joint = Joint(prior, likelihood, modules, random, method.initialisation_draw)
        super().__init__(joint, method.make(joint, posterior_approximator))
        self.model = model
        self.lik_log_var = likelihood_log_variance_model
        self.predictive: Any = RegressionPredictive(self.posterior, likelihood, joint.random)
