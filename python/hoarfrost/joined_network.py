"""Two networks with the same inputs as one, their outputs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from hoarfrost.errors import ShapeError
from hoarfrost.network import NamedNetwork

Tree = Any


@dataclass(frozen=True)
class JoinedNetwork:
    """A mean network and a log-variance network over one tree of parameters.

    ``params`` and ``mutable`` are keyed by the names of the two, as in
    ``{"model": {"params": ...}, "lik_log_var": {"params": ...}}``; a network without other
    collections has no entry in ``mutable``.

    Attributes
    ----------
    mean, log_variance : NamedNetwork
        Give outputs of the same shape ``(batch, D)``; joined they are ``(batch, 2 D)``.
    """

    mean: NamedNetwork
    log_variance: NamedNetwork

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs of both in evaluation mode, shape ``(batch, 2 D)``."""
        return self._join(
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
        return self._join(*outputs), updated

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """``{name: {"params": ..., "batch_stats": ...}}`` as ``(params, mutable)``."""
        params, mutable = {}, {}
        for part in (self.mean, self.log_variance):
            own_params, own_mutable = part.split(variables)
            params.update(own_params)
            mutable.update(own_mutable)
        return params, mutable

    def _join(self, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
        if mean.ndim != 2 or mean.shape != log_variance.shape:
            raise ShapeError(
                f"the outputs of {self.mean.name!r} have shape {mean.shape} and those of "
                f"{self.log_variance.name!r} {log_variance.shape}; both need the same shape "
                "(batch, D), one mean and one log-variance for each of D targets"
            )
        dtype = jnp.promote_types(mean.dtype, log_variance.dtype)
        return jnp.concatenate([mean.astype(dtype), log_variance.astype(dtype)], axis=1)
