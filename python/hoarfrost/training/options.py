"""Checks of the options of a training run, before anything starts."""

from __future__ import annotations

from typing import Any

from hoarfrost.checks import check_counts, is_number, shown
from hoarfrost.errors import InvalidArgumentError


def is_optimizer(value: Any) -> bool:
    """Whether a value is an optax optimiser: ``init`` and ``update``, and a hash for programs."""
    methods = (getattr(value, "init", None), getattr(value, "update", None))
    if isinstance(value, type) or not all(map(callable, methods)):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


def check_optimizer(optimizer: Any) -> None:
    """Raise `InvalidArgumentError` unless `optimizer` is an optax optimiser."""
    if not is_optimizer(optimizer):
        raise InvalidArgumentError(
            f"the optimizer is {shown(optimizer)}; give an optax optimiser, such as "
            "optax.adam(1e-3)"
        )


def check_gradient_options(max_grad_norm: Any, gradient_accumulation_steps: Any) -> None:
    """Raise `InvalidArgumentError` unless both are None or positive."""
    if gradient_accumulation_steps is not None:
        check_counts(gradient_accumulation_steps=gradient_accumulation_steps)
    if max_grad_norm is not None and (not is_number(max_grad_norm) or max_grad_norm <= 0):
        raise InvalidArgumentError(
            f"max_grad_norm is {shown(max_grad_norm)}; give a positive number, or None"
        )
