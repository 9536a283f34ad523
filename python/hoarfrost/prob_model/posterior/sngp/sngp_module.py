"""A model with random features behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods.sngp import SNGP, features_behind
from hoarfrost.network import GivenModule, Network
from hoarfrost.network.random_features import GP, MODEL, RandomFeatureNetwork
from hoarfrost.types import Tree


@dataclass(frozen=True)
class RandomFeatureModule(GivenModule):
    """What a user's model is where an SNGP is asked for.

    Attributes
    ----------
    inner : GivenModule
        The user's, which gives hidden features.
    settings : SNGP
        Of the random features.
    """

    inner: GivenModule
    settings: SNGP

    @property
    def starts_anew(self) -> bool:
        """Random features are drawn whatever the model is."""
        return True

    @property
    def needs_inputs(self) -> bool:
        """How many hidden features there are is known from inputs."""
        return True

    def variables(self, inputs: Tree, params_key: jax.Array, other_key: jax.Array) -> Tree:
        """The model's own variables, and random features."""
        own = self.inner.variables(inputs, params_key, other_key)
        network = self.inner.network
        shape = jax.eval_shape(lambda: network.evaluate(*network.split(own), _zeros(inputs))).shape
        return {MODEL: own, GP: features_behind(shape, self.settings, params_key)}

    def given_variables(self, tree: Tree, collections: Tree | None) -> Tree:
        """A user's values of both, as ``posterior.state.get().params["model"]`` has them."""
        if set(tree) != {MODEL, GP} or not all(isinstance(tree[n], Mapping) for n in (MODEL, GP)):
            raise InvalidArgumentError(
                f"tree has the keys {shown(list(tree))}, and an SNGP has random features beside "
                f'the model; give {{"{MODEL}": ..., "{GP}": ...}}'
            )
        return {MODEL: self.inner.given_variables(tree[MODEL], collections), GP: tree[GP]}

    def of_module(self, variables: Tree) -> Tree:
        """Those of the user's module."""
        own: Tree = variables[MODEL]
        return own


def with_random_features(approximator: Any, module: GivenModule) -> GivenModule:
    """The module of a model whose posterior is an SNGP."""
    settings: SNGP = approximator.settings
    network: Network = RandomFeatureNetwork(module.network, bool(settings.normalize_input))
    return RandomFeatureModule(
        module.model, network, module.call, module.argument, inner=module, settings=settings
    )


def _zeros(inputs: Tree) -> Tree:
    """A batch of the shapes of inputs, which may be no more than shapes."""
    return jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), inputs
    )
