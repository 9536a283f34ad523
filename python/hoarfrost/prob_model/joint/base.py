"""The joint distribution of targets and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_key, is_whole, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network import GivenModule, Network
from hoarfrost.prior import Prior
from hoarfrost.prob_model.likelihood import ModelLikelihood
from hoarfrost.prob_model.random import RandomNumberGenerator
from hoarfrost.prob_model.state import JointState


@dataclass(frozen=True)
class Joint:
    """Prior and likelihood of a model.

    Attributes
    ----------
    prior : IsotropicGaussianPrior, DiagonalGaussianPrior or Prior
        Over all parameters.
    likelihood : ModelLikelihood
        Of the targets, given parameters.
    modules : mapping of str to GivenModule
        The networks as the user gave them, by the names under which their parameters stand.
    random : RandomNumberGenerator
        The model's keys.
    initialisation_draw : int
        Which key of Fortuna's generator the networks are initialised by.
    """

    prior: Prior
    likelihood: ModelLikelihood
    modules: Mapping[str, GivenModule]
    random: RandomNumberGenerator
    initialisation_draw: int

    @property
    def network(self) -> Network:
        """The network over parameters that are keyed by the names of `modules`."""
        network: Network = self.likelihood.network
        return network

    @property
    def starts_anew(self) -> bool:
        """Whether any network's parameters are drawn when training starts."""
        return any(module.starts_anew for module in self.modules.values())

    def init(self, input_shape: Any, rng: jax.Array | int | None = None) -> JointState:
        """Parameters drawn by the networks' initialisers; of NNX modules, those that they hold.

        Parameters
        ----------
        input_shape : tuple of int, array, or tree of either
            The shape of one input (float32 is then meant), such as a loader's `input_shape`, or a
            batch of inputs.
        rng : jax.Array or int, optional
            A key or a seed; by default the model's own, the same at every call.

        Raises
        ------
        InvalidArgumentError
            If `input_shape` or `rng` is none of these, if `rng` is given and nothing is drawn, or
            if an NNX module holds no values.
        """
        if rng is not None and not self.starts_anew:
            raise InvalidArgumentError(
                f"rng is {shown(rng)}, but an NNX module starts from the parameters that it holds; "
                "leave it out, or make the model with a function that makes the module of rngs"
            )
        inputs = _inputs_like(input_shape)
        if rng is None:
            keys = self.random.initialisation_keys(self.initialisation_draw, len(self.modules))
        else:
            first, second = jax.random.split(check_key(rng))
            # The first network has the keys themselves, so that adding another changes nothing.
            folded = [
                (jax.random.fold_in(first, index), jax.random.fold_in(second, index))
                for index in range(1, len(self.modules))
            ]
            keys = [(first, second), *folded]
        variables = {
            name: module.variables(inputs, *own)
            for (name, module), own in zip(self.modules.items(), keys, strict=True)
        }
        params, mutable = self.network.split(variables)
        return JointState(params=params, mutable=mutable or None)


def _inputs_like(input_shape: Any) -> Any:
    """A tree of arrays, or of what has their shapes, of a batch with one point."""

    def is_shape(tree: Any) -> bool:
        return isinstance(tree, tuple | list) and all(is_whole(size, 0) for size in tree)

    def like(path: Any, leaf: Any) -> Any:
        if is_shape(leaf):
            shape = (1, *map(int, leaf))
            return jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]
        if len(getattr(leaf, "shape", ())) and hasattr(leaf, "dtype"):
            return leaf
        raise InvalidArgumentError(
            f"input_shape{jax.tree_util.keystr(path)} is {shown(leaf)}; give the shape of one "
            "input, a tuple of whole numbers, or a batch of inputs, or a tree of either"
        )

    inputs = jax.tree_util.tree_map_with_path(like, input_shape, is_leaf=is_shape)
    if not jax.tree.leaves(inputs):
        raise InvalidArgumentError(
            f"input_shape is {shown(input_shape)}; give the shape of one input, or a batch"
        )
    return inputs
