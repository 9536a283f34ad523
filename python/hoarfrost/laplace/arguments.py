"""Checks of the arguments of a posterior's methods."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from hoarfrost.errors import InvalidArgumentError


def check_count(name: str, value: Any, least: int) -> None:
    """Raise `InvalidArgumentError` unless `value` is a whole number of at least `least`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < least:
        raise InvalidArgumentError(f"{name} is {value!r}; give a whole number of at least {least}")


def check_draws(seed: Any, n_samples: Any) -> tuple[int, int]:
    """Both as ints; raises `InvalidArgumentError` unless they are such numbers."""
    check_count("n_samples", n_samples, 1)
    check_count("seed", seed, 0)
    if int(seed) >= 2**64:
        raise InvalidArgumentError(f"seed is {seed!r}; give a whole number below 2**64")
    return int(seed), int(n_samples)
