"""The joint distribution of targets and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn

from hoarfrost.network import NamedNetwork, init_linen
from hoarfrost.prior import GaussianPrior
from hoarfrost.prob_model.likelihood import ClassificationLikelihood
from hoarfrost.prob_model.random import RandomNumberGenerator, check_key
from hoarfrost.prob_model.state import JointState

Tree = Any


@dataclass(frozen=True)
class Joint:
    """Prior and likelihood of a model.

    Attributes
    ----------
    prior : IsotropicGaussianPrior or DiagonalGaussianPrior
        Over all parameters.
    likelihood : ClassificationLikelihood
        Of the targets, given parameters.
    module : flax.linen.Module
        The network as the user gave it.
    random : RandomNumberGenerator
        The model's keys.
    """

    prior: GaussianPrior
    likelihood: ClassificationLikelihood
    module: nn.Module
    random: RandomNumberGenerator

    @property
    def network(self) -> NamedNetwork:
        """The network over parameters that are keyed by "model"."""
        return self.likelihood.network

    def init(self, input_shape: Any, rng: jax.Array | None = None) -> JointState:
        """Parameters drawn by the network's initialisers.

        Parameters
        ----------
        input_shape : tuple of int, array or tree of arrays
            The shape of one input (float32 is then meant), or a batch of inputs.
        rng : jax.Array, optional
            A key; by default the model's own, the same at every call.
        """
        if rng is None:
            keys = self.random.initialisation_keys()
        else:
            first, second = jax.random.split(check_key(rng))
            keys = first, second
        variables = {"model": init_linen(self.module, input_shape, *keys)}
        params, mutable = self.network.split(variables)
        return JointState(params=params, mutable=mutable or None)
