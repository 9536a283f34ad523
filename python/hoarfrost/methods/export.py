"""Predictions of draws as arrays and one pure JAX function, for where they are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.freezing import Partition
from hoarfrost.likelihood import Likelihood
from hoarfrost.memory import format_bytes
from hoarfrost.methods.draws import tree_bytes
from hoarfrost.network import Network
from hoarfrost.predictive.link import quantity_of
from hoarfrost.predictive.mixture import statistic
from hoarfrost.predictive.weight_samples import WeightSamples, with_own
from hoarfrost.types import Tree


@dataclass(frozen=True, eq=False, repr=False)
class ServedDraws:
    """A pure function ``(arrays, params, inputs)``, to be jitted, sharded or exported.

    Attributes
    ----------
    size, nbytes : int
        How many draws there are, and the bytes of their arrays.
    """

    size: int
    nbytes: int
    network: Network
    partition: Partition
    likelihood: Likelihood
    owned: tuple[bool, ...]

    def __repr__(self) -> str:
        return f"ServedDraws({self.size} draws, {format_bytes(self.nbytes)} of arrays)"

    def __call__(self, arrays: Tree, params: Tree, inputs: Tree) -> Any:
        """The predictive distribution at inputs, axis 0 over the B points.

        Of outputs with positions each is a point, and what is given has their axes.
        """
        params, mutable = self.network.split(params)
        _, frozen = self.partition.split(params)

        def outputs_of(draw: dict[str, Tree]) -> jax.Array:
            merged = self.partition.merge(draw["trainable"], frozen)
            collections = with_own(mutable, self.owned, draw["statistics"])
            return self.network.evaluate(merged, collections, inputs)

        with jax.default_matmul_precision("highest"):
            # What is frozen alone is computed once for all draws.
            outputs = jax.vmap(outputs_of)(arrays)
        rows = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        quantity = quantity_of(self.likelihood)
        found = statistic(quantity, self.likelihood)(rows)
        *_, width = found.shape
        if quantity == "moments":
            return tuple(found.reshape(3, *outputs.shape[1:-1], width))
        found = found.reshape(*outputs.shape[1:-1], width)
        return jnp.exp(found) if quantity == "probabilities" else found


def to_jax(samples: WeightSamples, network: Network, likelihood: Likelihood) -> Any:
    """Arrays and function of some draws."""
    arrays = {
        "trainable": jax.tree.map(jnp.asarray, samples.trainable),
        "statistics": tuple(jnp.asarray(leaf) for leaf in samples.own),
    }
    served = ServedDraws(
        samples.size, tree_bytes(arrays), network, samples.partition, likelihood, samples.owned
    )
    return arrays, served
