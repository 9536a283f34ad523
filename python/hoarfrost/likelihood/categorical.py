"""One of C classes, by a softmax of C logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import ShapeError
from hoarfrost.likelihood.base import check_labels, check_matrix_outputs
from hoarfrost.likelihood.logits import log_softmax
from hoarfrost.types import pytree


@pytree
@dataclass(frozen=True)
class Categorical:
    """The categorical likelihood: ``p(y = c | f) = softmax(f)_c``, labels in ``0..C-1``."""

    name: ClassVar[str] = "categorical"
    head: ClassVar[Literal["softmax", "independent"]] = "softmax"

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless outputs are ``(B, C)`` with at least two logits."""
        check_matrix_outputs(
            self.name,
            shape,
            2,
            "give the last layer one logit a class (for a single logit use the bernoulli one)",
        )

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error unless targets are ``(B,)`` labels in ``0..num_outputs-1``."""
        if targets.ndim != 1:
            raise ShapeError(
                f"targets of batch {batch_index} have shape {targets.shape}; the categorical "
                "likelihood needs one label a point, shape (batch,): squeeze a column, or take "
                "argmax over a one-hot axis"
            )
        check_labels(
            targets,
            num_outputs,
            batch_index,
            "renumber the classes from 0, or give the network more outputs",
        )

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """``f_y - logsumexp(f)``, shape ``(B,)``."""
        outputs = at_least_float32(outputs)
        chosen = jnp.take_along_axis(outputs, targets.astype(jnp.int32)[:, None], axis=1)[:, 0]
        return chosen - jax.scipy.special.logsumexp(outputs, axis=1)

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """``diag(p) - p p^T``, shape ``(B, C, C)``."""
        p = self.mean(outputs)
        eye = jnp.eye(p.shape[1], dtype=p.dtype)[None]
        return eye * (p * _others(p))[:, :, None] - (1 - eye) * p[:, :, None] * p[:, None, :]

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """A root with C - 1 columns, shape ``(B, C, C - 1)``.

        With ``s = sqrt(p)``, ``diag(s) - p s^T`` is a square root of Lambda that maps s to 0. A
        Householder reflection that takes s to the last axis moves this null direction into the
        last column, which is dropped. Written out, no term is a difference of near equals: with
        l the last class, row l is ``-s_l s_j``, the rest ``-p_i s_j / (1 + s_l)``, and
        ``s_i (1 - p_i + s_l) / (1 + s_l)`` on the diagonal.
        """
        log_p = jax.nn.log_softmax(at_least_float32(outputs), axis=1)
        p, s = jnp.exp(log_p), jnp.exp(log_p / 2)
        last = s[:, -1:]
        head, head_p = s[:, :-1], p[:, :-1]
        eye = jnp.eye(head.shape[1], dtype=s.dtype)[None]
        diagonal = head * (_others(p)[:, :-1] + last) / (1 + last)
        square = eye * diagonal[:, :, None] - (1 - eye) * (
            head_p[:, :, None] * (head / (1 + last))[:, None, :]
        )
        return jnp.concatenate([square, -(last * head)[:, None, :]], axis=1)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Probabilities, shape ``(B, C)``."""
        return jax.nn.softmax(at_least_float32(outputs), axis=1)

    def log_probs(self, outputs: jax.Array) -> jax.Array:
        """Log-probabilities, shape ``(..., C)``."""
        return jax.nn.log_softmax(at_least_float32(outputs), axis=-1)

    def host_log_probs(self, outputs: np.ndarray) -> np.ndarray:
        """Log-probabilities in float64, shape ``(B, C)``."""
        return log_softmax(outputs)

    def host_log_prob(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Log-probability of each label in float64, shape ``(B,)``."""
        chosen = targets.astype(np.int64)[:, None]
        picked: np.ndarray = np.take_along_axis(log_softmax(outputs), chosen, axis=1)[:, 0]
        return picked

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """``p (1 - p)`` in float64, shape ``(B, C)``: the diagonal of Lambda."""
        outputs = np.asarray(outputs, dtype=np.float64)
        p: np.ndarray = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        off = 1.0 - np.eye(p.shape[1])
        weights: np.ndarray = p * (p @ off)
        return weights


def _others(p: jax.Array) -> jax.Array:
    """``1 - p`` as the sum of the other classes: exact also where p is nearly 1."""
    off = 1 - jnp.eye(p.shape[1], dtype=p.dtype)
    return jnp.matmul(p, off, precision=jax.lax.Precision.HIGHEST)
