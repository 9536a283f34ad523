"""The joint distribution of targets and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import linen as nn

from hoarfrost.checks import check_key
from hoarfrost.network import Network, init_linen
from hoarfrost.prior import GaussianPrior
from hoarfrost.prob_model.likelihood import ModelLikelihood
from hoarfrost.prob_model.random import RandomNumberGenerator
from hoarfrost.prob_model.state import JointState


@dataclass(frozen=True)
class Joint:
    """Prior and likelihood of a model.

    Attributes
    ----------
    prior : IsotropicGaussianPrior or DiagonalGaussianPrior
        Over all parameters.
    likelihood : ModelLikelihood
        Of the targets, given parameters.
    modules : mapping of str to flax.linen.Module
        The networks as the user gave them, by the names under which their parameters stand.
    random : RandomNumberGenerator
        The model's keys.
    """

    prior: GaussianPrior
    likelihood: ModelLikelihood
    modules: Mapping[str, nn.Module]
    random: RandomNumberGenerator

    @property
    def network(self) -> Network:
        """The network over parameters that are keyed by the names of `modules`."""
        network: Network = self.likelihood.network
        return network

    def init(self, input_shape: Any, rng: jax.Array | int | None = None) -> JointState:
        """Parameters drawn by the networks' initialisers.

        Parameters
        ----------
        input_shape : tuple of int, array or tree of arrays
            The shape of one input (float32 is then meant), or a batch of inputs.
        rng : jax.Array or int, optional
            A key or a seed; by default the model's own, the same at every call.
        """
        if rng is None:
            keys = self.random.initialisation_keys()
        else:
            first, second = jax.random.split(check_key(rng))
            keys = first, second
        variables = {}
        for index, (name, module) in enumerate(self.modules.items()):
            # The first network has the keys themselves, so that adding another changes nothing.
            own = keys if index == 0 else tuple(jax.random.fold_in(key, index) for key in keys)
            variables[name] = init_linen(module, input_shape, *own)
        params, mutable = self.network.split(variables)
        return JointState(params=params, mutable=mutable or None)
