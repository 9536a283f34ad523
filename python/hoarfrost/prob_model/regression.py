"""A network that predicts numbers, and how sure it is."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from hoarfrost.calibration import RegressionTemperatureScaler
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import HeteroscedasticGaussian
from hoarfrost.network import JoinedNetwork, LinenNetwork, NamedNetwork, interned
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

    Targets have shape ``(N, D)``, or ``(N,)`` where D is 1; predictions always have shape
    ``(N, D)``. Given the parameters a target is Gaussian, with the mean that `model` and the
    log-variance that `likelihood_log_variance_model` predicts. Their parameters stand under
    "model" and "lik_log_var", which is also where the path begins that a freeze function sees.

    Parameters
    ----------
    model : flax.linen.Module
        Maps inputs to means of shape ``(batch, D)``. Its ``__call__`` may take `train`.
    likelihood_log_variance_model : flax.linen.Module
        Maps the same inputs to logarithms of the noise variance, shape ``(batch, D)``.
    prior : IsotropicGaussianPrior, DiagonalGaussianPrior or Prior, optional
        Over all parameters of both networks; a standard normal by default.
    posterior_approximator : optional
        ``LaplacePosteriorApproximator()``, the default, or ``MAPPosteriorApproximator()``.
    output_calibrator : flax.linen.Module, optional
        What calibration fits, a module that maps outputs to outputs; temperature scaling by
        default. None: the model cannot be calibrated.
    model_editor : None
        Not available in this version; anything but None is an error.
    seed : int or jax.Array
        Of initialisation, dropout, and every draw that is given no key of its own.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    def __init__(
        self,
        model: nn.Module,
        likelihood_log_variance_model: nn.Module,
        prior: Prior | None = None,
        posterior_approximator: Any = None,
        output_calibrator: nn.Module | None = _TEMPERATURE_SCALER,
        model_editor: None = None,
        seed: int | jax.Array = 0,
    ) -> None:
        modules = {"model": model, "lik_log_var": likelihood_log_variance_model}
        arguments = ("model", "likelihood_log_variance_model")
        for argument, module in zip(arguments, modules.values(), strict=True):
            if not isinstance(module, nn.Module):
                raise InvalidArgumentError(
                    f"{argument} is {module!r}; give an instance of a flax.linen.Module (for a "
                    "function use hoarfrost.fit_laplace)"
                )
        if model_editor is not None:
            raise InvalidArgumentError(
                f"model_editor is {model_editor!r}, but this version has none; leave it out"
            )
        prior = IsotropicGaussianPrior() if prior is None else prior
        check_prior(prior)
        random = RandomNumberGenerator(seed)
        named = (NamedNetwork(n, LinenNetwork(m)) for n, m in modules.items())
        network = interned(JoinedNetwork(*named))
        likelihood = RegressionLikelihood(
            network, HeteroscedasticGaussian(), as_calibrator(output_calibrator), random
        )
        if posterior_approximator is None:
            posterior_approximator = LaplacePosteriorApproximator()
        method = method_of(posterior_approximator)
        joint = Joint(prior, likelihood, modules, random, method.initialisation_draw)
        super().__init__(joint, method.make(joint, posterior_approximator))
        self.model = model
        self.lik_log_var = likelihood_log_variance_model
        self.predictive: Any = RegressionPredictive(self.posterior, likelihood, joint.random)
