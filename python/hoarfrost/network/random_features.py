"""A network with a Gaussian process for its last layer, by random features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import ShapeError
from hoarfrost.network.base import Network
from hoarfrost.network.keyed import settle
from hoarfrost.network.named import param_kinds
from hoarfrost.types import Path, Tree

MODEL, GP = "model", "gp"
FREQUENCIES, PHASES, KERNEL = "frequencies", "phases", "kernel"
# Added to the variance of hidden features before its root is divided by.
_EPS = 1e-6


@dataclass(frozen=True)
class RandomFeatureNetwork:
    """``sqrt(2 / m) cos(h W + b) beta`` of the outputs h of a network, ``(B, D)``.

    Parameters are ``{"model": the network's own, "gp": {"frequencies": W (D, m), "phases": b (m,),
    "kernel": beta (m, C)}}``.

    Attributes
    ----------
    inner : Network
        Gives the hidden features.
    normalises : bool
        Whether the hidden features of each point are brought to mean 0 and variance 1.
    """

    inner: Network
    normalises: bool

    @property
    def param_kinds(self) -> dict[Path, type]:
        """The class of each parameter of an NNX module, by its path."""
        return {(MODEL, *path): kind for path, kind in param_kinds(self.inner).items()}

    @property
    def owner(self) -> object | None:
        """That of the inner network."""
        return self.inner.owner

    @property
    def unowned(self) -> RandomFeatureNetwork:
        """With the inner network unowned."""
        return replace(self, inner=self.inner.unowned)

    def settle(self) -> None:
        """Say that a program of this network was just traced."""
        settle(self.inner)

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(B, C)``."""
        return self._outputs(params, self.inner.evaluate(params[MODEL], mutable, inputs))

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode, and the collections as that pass left them."""
        hidden, after = self.inner.train(params[MODEL], mutable, inputs, key)
        return self._outputs(params, hidden), after

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """Parameters and collections, of variables under the same two names."""
        own, mutable = self.inner.split(variables[MODEL])
        return {MODEL: own, GP: variables[GP]}, mutable

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The variables again."""
        return {MODEL: self.inner.join(params[MODEL], mutable), GP: params[GP]}

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Those of the inner network."""
        return self.inner.idle_in_training(params[MODEL], mutable, inputs)

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """As the inner network says."""
        own = {path[1:]: chosen for path, chosen in trainable.items() if path[0] == MODEL}
        return self.inner.moving(own, mutable)

    def _outputs(self, params: Tree, hidden: jax.Array) -> jax.Array:
        gp = params[GP]
        width = gp[FREQUENCIES].shape[0]
        if hidden.ndim < 2 or hidden.shape[-1] != width:
            raise ShapeError(
                f"the model gives hidden features of shape {tuple(hidden.shape)}, and the random "
                f"features were made for (B, {width})"
            )
        hidden = hidden.astype(jnp.promote_types(hidden.dtype, gp[FREQUENCIES].dtype))
        if self.normalises:
            centred = hidden - jnp.mean(hidden, axis=-1, keepdims=True)
            spread = jnp.mean(centred**2, axis=-1, keepdims=True)
            hidden = centred / jnp.sqrt(spread + _EPS)
        # Hundreds of radians: a product of less precision would leave nothing of the cosine.
        angles = jnp.matmul(hidden, gp[FREQUENCIES], precision="highest") + gp[PHASES]
        features = np.sqrt(2 / gp[PHASES].size).astype(angles.dtype) * jnp.cos(angles)
        outputs: jax.Array = features @ gp[KERNEL]
        return outputs


def random_features(
    width: int, num_features: int, num_outputs: int, key: jax.Array
) -> dict[str, jax.Array]:
    """Parameters of the layer, a Gaussian kernel of length ``sqrt(D)``, with small weights."""
    first, second, third = jax.random.split(key, 3)
    return {
        FREQUENCIES: jax.random.normal(first, (width, num_features)) / np.sqrt(width),
        PHASES: jax.random.uniform(second, (num_features,), maxval=2 * np.pi),
        KERNEL: 0.1 * jax.random.normal(third, (num_features, num_outputs)),
    }
