"""Checks of the options of a training run, before anything starts."""

from __future__ import annotations

import math
from typing import Any

from hoarfrost.checks import check_counts
from hoarfrost.errors import InvalidArgumentError


def check_optimizer(optimizer: Any) -> None:
    """Raise `InvalidArgumentError` unless `optimizer` is an optax optimiser."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise InvalidArgumentError(
            f"the optimizer is {optimizer!r}; give an optax optimiser, such as optax.adam(1e-3)"
        )


def check_gradient_options(max_grad_norm: Any, gradient_accumulation_steps: Any) -> None:
    """Raise `InvalidArgumentError` unless both are None or positive."""
    if gradient_accumulation_steps is not None:
        check_counts(gradient_accumulation_steps=gradient_accumulation_steps)
    if max_grad_norm is not None and (
        not isinstance(max_grad_norm, int | float) or not 0 < max_grad_norm < math.inf
    ):
        raise InvalidArgumentError(
            f"max_grad_norm is {max_grad_norm!r}; give a positive number, or None"
        )
