"""Yes or no, by one logit for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import ShapeError
from hoarfrost.likelihood.base import check_labels, check_matrix_outputs
from hoarfrost.likelihood.logits import log_sigmoid
from hoarfrost.types import pytree


@pytree
@dataclass(frozen=True)
class Bernoulli:
    """Independent Bernoulli outputs: ``p(y_c = 1 | f) = sigmoid(f_c)``.

    Targets are 0 or 1, shape ``(B, C)``; ``(B,)`` too where there is a single logit.
    """

    name: ClassVar[str] = "bernoulli"
    head: ClassVar[Literal["softmax", "independent"]] = "independent"

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless outputs are ``(B, C)``."""
        check_matrix_outputs(self.name, shape, 1, "let the network return one logit a label")

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error unless targets are 0 or 1 and as many as the outputs."""
        single = targets.ndim == 1 and num_outputs == 1
        if not single and targets.shape[1:] != (num_outputs,):
            raise ShapeError(
                f"targets of batch {batch_index} have shape {targets.shape}; the bernoulli "
                f"likelihood needs (batch, {num_outputs}), one 0 or 1 for each logit"
            )
        check_labels(targets, 2, batch_index, "for more classes use the categorical likelihood")

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """``sum_c y log sigmoid(f) + (1 - y) log sigmoid(-f)``, shape ``(B,)``."""
        outputs = at_least_float32(outputs)
        sign = 2 * targets.reshape(outputs.shape).astype(outputs.dtype) - 1
        return jnp.sum(jax.nn.log_sigmoid(sign * outputs), axis=1)

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """``diag(p (1 - p))``, shape ``(B, C, C)``."""
        outputs = at_least_float32(outputs)
        weights = jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs)
        return jnp.eye(outputs.shape[1], dtype=outputs.dtype)[None] * weights[:, :, None]

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """``diag(sqrt(p (1 - p)))``, shape ``(B, C, C)``."""
        outputs = at_least_float32(outputs)
        # By logarithms: a product that underflows may still have a root that does not.
        root = jnp.exp((jax.nn.log_sigmoid(outputs) + jax.nn.log_sigmoid(-outputs)) / 2)
        return jnp.eye(outputs.shape[1], dtype=outputs.dtype)[None] * root[:, :, None]

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Probability of a 1 for each output, shape ``(B, C)``."""
        return jax.nn.sigmoid(at_least_float32(outputs))

    def log_probs(self, outputs: jax.Array) -> jax.Array:
        """Log-probabilities of a 1, shape ``(..., C)``."""
        return jax.nn.log_sigmoid(at_least_float32(outputs))

    def host_log_probs(self, outputs: np.ndarray) -> np.ndarray:
        """Log-probabilities of a 1 in float64, shape ``(B, C)``."""
        return log_sigmoid(outputs)

    def host_log_prob(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Log-probability of the labels of each point in float64, shape ``(B,)``."""
        # By the sign of the logit: log p(0) from log p(1) would lose what is near certainty.
        sign = 2 * targets.reshape(outputs.shape).astype(np.float64) - 1
        labels: np.ndarray = log_sigmoid(sign * outputs).sum(axis=1)
        return labels

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """``p (1 - p)`` in float64, shape ``(B, C)``."""
        small = np.exp(-np.abs(np.asarray(outputs, dtype=np.float64)))
        return small / (1.0 + small) ** 2
