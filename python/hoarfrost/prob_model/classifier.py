"""A network that says which class an input belongs to, and how sure it is."""

from __future__ import annotations

from typing import Any

from flax import linen as nn

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Categorical
from hoarfrost.network import LinenNetwork, NamedNetwork
from hoarfrost.prior import GaussianPrior, IsotropicGaussianPrior, check_prior
from hoarfrost.prob_model.approximator import LaplacePosteriorApproximator, PosteriorApproximator
from hoarfrost.prob_model.base import ProbModel
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.likelihood import ClassificationLikelihood
from hoarfrost.prob_model.predictive import ClassificationPredictive
from hoarfrost.prob_model.random import RandomNumberGenerator


class ProbClassifier(ProbModel):
    """A Flax network as a probabilistic classifier.

    Labels are whole numbers in ``0..C-1``, C being the number of the network's outputs; a class
    may be missing from the training data.

    Parameters
    ----------
    model : flax.linen.Module
        Maps inputs to logits of shape ``(batch, C)``. Its ``__call__`` may take `train`.
    prior : IsotropicGaussianPrior or DiagonalGaussianPrior, optional
        Over all parameters; a standard normal by default.
    posterior_approximator : optional
        ``LaplacePosteriorApproximator()``, the default, or ``MAPPosteriorApproximator()``.
    output_calibrator, model_editor : None
        Not available in this version; anything but None is an error.
    seed : int
        Of initialisation, dropout, and every draw that is given no key of its own.

    Raises
    ------
    InvalidArgumentError
        If an argument is none of these.
    """

    def __init__(
        self,
        model: nn.Module,
        prior: GaussianPrior | None = None,
        posterior_approximator: PosteriorApproximator | None = None,
        output_calibrator: None = None,
        model_editor: None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InvalidArgumentError(
                f"model is {model!r}; give an instance of a flax.linen.Module (for a function use "
                "hoarfrost.fit_laplace)"
            )
        for name, value in (
            ("output_calibrator", output_calibrator),
            ("model_editor", model_editor),
        ):
            if value is not None:
                raise InvalidArgumentError(
                    f"{name} is {value!r}, but this version has none; leave it out"
                )
        prior = IsotropicGaussianPrior() if prior is None else prior
        check_prior(prior)
        network = NamedNetwork("model", LinenNetwork(model))
        likelihood = ClassificationLikelihood(network, Categorical())
        joint = Joint(prior, likelihood, model, RandomNumberGenerator(seed))
        if posterior_approximator is None:
            posterior_approximator = LaplacePosteriorApproximator()
        super().__init__(joint, posterior_approximator)
        self.model = model
        self.predictive: Any = ClassificationPredictive(self.posterior, likelihood, joint.random)
