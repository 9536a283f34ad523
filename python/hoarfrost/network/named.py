"""Networks whose variables sit under names, alone or side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from hoarfrost.errors import ShapeError
from hoarfrost.network.base import Network
from hoarfrost.network.keyed import settle
from hoarfrost.types import Path, Tree


@dataclass(frozen=True)
class NamedNetwork:
    """A network whose variables sit under a name, as in ``{"model": {"params": ...}}``."""

    name: str
    network: Network

    @property
    def param_kinds(self) -> dict[Path, type]:
        """The class of each parameter of an NNX module, by its path."""
        return {(self.name, *path): kind for path, kind in param_kinds(self.network).items()}

    @property
    def owner(self) -> object | None:
        """That of what it is made of."""
        return self.network.owner

    @property
    def unowned(self) -> NamedNetwork:
        """Made of what holds nothing."""
        return NamedNetwork(self.name, self.network.unowned)

    def settle(self) -> None:
        """Say that a program of this network was just traced."""
        settle(self.network)

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs of the named network in evaluation mode."""
        return self.network.evaluate(params[self.name], mutable.get(self.name, {}), inputs)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs of the named network in training mode, and its new collections."""
        outputs, updated = self.network.train(
            params[self.name], mutable.get(self.name, {}), inputs, key
        )
        return outputs, ({self.name: updated} if mutable else mutable)

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """``{name: {"params": ..., "batch_stats": ...}}`` as ``(params, mutable)``."""
        params, mutable = self.network.split(variables[self.name])
        return {self.name: params}, ({self.name: mutable} if mutable else {})

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The variables again, under the name."""
        own = mutable.get(self.name, {})
        return {self.name: self.network.join(params[self.name], own)}

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Layers of the named network that stay in evaluation mode in training."""
        own = mutable.get(self.name, {})
        found = self.network.idle_in_training(params[self.name], own, inputs)
        return tuple(f"{self.name}/{layer}" for layer in found)

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """Which statistics of the named network training updates, in tree order."""
        own = {path[1:]: chosen for path, chosen in trainable.items() if path[0] == self.name}
        return self.network.moving(own, mutable.get(self.name, {}))


@dataclass(frozen=True)
class JoinedNetwork:
    """A mean network and a log-variance network over one tree of parameters.

    ``params`` and ``mutable`` are keyed by the names of the two, as in
    ``{"model": {"params": ...}, "lik_log_var": {"params": ...}}``; a network without other
    collections has no entry in ``mutable``.

    Attributes
    ----------
    mean, log_variance : NamedNetwork
        Give outputs of the same shape ``(batch, D)``, or with axes of positions between the two;
        joined they are ``(batch, 2 D)``.
    """

    mean: NamedNetwork
    log_variance: NamedNetwork

    @property
    def param_kinds(self) -> dict[Path, type]:
        """The class of each parameter of NNX modules, by its path."""
        return self.mean.param_kinds | self.log_variance.param_kinds

    @property
    def owner(self) -> object | None:
        """That of what it is made of: the two live and die together."""
        return self.mean.owner or self.log_variance.owner

    @property
    def unowned(self) -> JoinedNetwork:
        """Made of what holds nothing."""
        return JoinedNetwork(self.mean.unowned, self.log_variance.unowned)

    def settle(self) -> None:
        """Say that a program of this network was just traced."""
        self.mean.settle()
        self.log_variance.settle()

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs of both in evaluation mode, shape ``(batch, 2 D)``."""
        return self._side_by_side(
            self.mean.evaluate(params, mutable, inputs),
            self.log_variance.evaluate(params, mutable, inputs),
        )

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs of both in training mode, each with a key of its own, and the new collections."""
        updated, outputs = dict(mutable), []
        for part, part_key in zip(
            (self.mean, self.log_variance), jax.random.split(key), strict=True
        ):
            own = {part.name: mutable[part.name]} if part.name in mutable else {}
            result, own = part.train(params, own, inputs, part_key)
            outputs.append(result)
            updated.update(own)
        return self._side_by_side(*outputs), updated

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """``{name: {"params": ..., "batch_stats": ...}}`` as ``(params, mutable)``."""
        params, mutable = {}, {}
        for part in (self.mean, self.log_variance):
            own_params, own_mutable = part.split(variables)
            params.update(own_params)
            mutable.update(own_mutable)
        return params, mutable

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The variables of both again, under their names."""
        parts = (self.mean, self.log_variance)
        return {part.name: part.join(params, mutable)[part.name] for part in parts}

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Layers of both that stay in evaluation mode in training."""
        parts = (self.mean, self.log_variance)
        return tuple(x for part in parts for x in part.idle_in_training(params, mutable, inputs))

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """Which statistics of both training updates, in tree order: by name."""
        parts = sorted((self.mean, self.log_variance), key=lambda part: part.name)
        return tuple(m for part in parts for m in part.moving(trainable, mutable))

    def _side_by_side(self, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
        if mean.ndim < 2 or mean.shape != log_variance.shape:
            raise ShapeError(
                f"the outputs of {self.mean.name!r} have shape {mean.shape} and those of "
                f"{self.log_variance.name!r} {log_variance.shape}; both need the same shape "
                "(batch, D), or with axes of positions between the two, one mean and one "
                "log-variance for each of D targets"
            )
        dtype = jnp.promote_types(mean.dtype, log_variance.dtype)
        return jnp.concatenate([mean.astype(dtype), log_variance.astype(dtype)], axis=-1)


def param_kinds(network: Network) -> dict[Path, type]:
    """The class of the variable at each path of an NNX module; empty for any other network."""
    kinds: dict[Path, type] = getattr(network, "param_kinds", {})
    return kinds
