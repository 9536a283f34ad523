"""Logarithms of probabilities in NumPy, finite for logits of any size."""

from __future__ import annotations

import numpy as np

from hoarfrost.types import Array


def log_sum_exp(values: Array) -> Array:
    """``log sum_c exp(v_c)``, shape ``(B, 1)``."""
    largest = values.max(axis=1, keepdims=True)
    result: Array = largest + np.log(np.exp(values - largest).sum(axis=1, keepdims=True))
    return result


def log_softmax(logits: Array) -> Array:
    """Log-probabilities of classes, shape ``(B, C)``."""
    result: Array = logits - log_sum_exp(logits)
    return result


def log_sigmoid(logits: Array) -> Array:
    """Log-probabilities of a 1."""
    result: Array = -np.logaddexp(0.0, -logits)
    return result
