"""Checks of plain arguments: whole numbers, positive numbers, switches, seeds and keys."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.fork import check_not_forked


def is_whole(value: Any, least: int) -> bool:
    """Whether `value` is a whole number of at least `least`; True and False are none."""
    whole = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    return whole and int(value) >= least


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number; True and False are none."""
    real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return real and math.isfinite(value)


def check_integer(name: str, value: Any, least: int = 1, hint: str = "") -> int:
    """The argument as an int; raises `InvalidArgumentError` unless it is at least `least`."""
    if not is_whole(value, least):
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise InvalidArgumentError(f"{name} must be {kind}, but it is {value!r}{hint}")
    return int(value)


def check_counts(**counts: Any) -> None:
    """Raise `InvalidArgumentError` unless every argument is a positive integer."""
    for name, value in counts.items():
        if not is_whole(value, 1):
            raise InvalidArgumentError(f"{name} is {value!r}; give a positive integer")


def check_count(name: str, value: Any, least: int) -> None:
    """Raise `InvalidArgumentError` unless `value` is a whole number of at least `least`."""
    if not is_whole(value, least):
        raise InvalidArgumentError(f"{name} is {value!r}; give a whole number of at least {least}")


def check_switch(name: str, value: Any) -> bool:
    """The argument as a bool; raises `InvalidArgumentError` unless it is one."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidArgumentError(f"{name} must be True or False, but it is {value!r}")
    return bool(value)


def check_number(name: str, value: Any, *, positive: bool, hint: str = "") -> float:
    """The argument as a float, if it is finite and not negative (`positive`: nor 0)."""
    if not is_number(value) or value < 0 or (positive and value == 0):
        least = "above 0" if positive else "of at least 0"
        raise InvalidArgumentError(
            f"{name} must be a finite number {least}, but it is {value!r}{hint}"
        )
    return float(value)


def check_probability(name: str, value: Any) -> float:
    """The argument as a float; raises unless it lies between 0 and 1, both excluded."""
    if not is_number(value) or not 0 < value < 1:
        raise InvalidArgumentError(
            f"{name} is {value!r}; give a number between 0 and 1, both excluded"
        )
    return float(value)


def check_key(rng: Any) -> jax.Array:
    """The argument as a JAX key: one of the old kind or the new, or that of a seed."""
    check_not_forked("a random key")
    if is_key(rng):
        key: jax.Array = rng
        return key
    if not is_whole(rng, 0) or int(rng) >= 2**63:
        raise InvalidArgumentError(
            f"rng is {rng!r}; give a key such as jax.random.PRNGKey(0), or a seed from 0 to "
            "2**63 - 1"
        )
    made: jax.Array = jax.random.PRNGKey(int(rng))
    return made


def seed_from_key(key: jax.Array) -> int:
    """A seed of 62 bits for streams that are not JAX's."""
    high, low = (int(word) for word in jax.random.bits(key, (2,), "uint32"))
    return ((high << 32) | low) >> 2


def is_key(value: Any) -> bool:
    """Whether `value` is one JAX key, of the old kind or the new."""
    return isinstance(value, jax.Array | np.ndarray) and bool(
        (jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0)
        or (value.dtype == np.uint32 and value.ndim == 1)
    )


def check_draws(seed: Any, n_samples: Any) -> tuple[int, int]:
    """Both as ints; a key stands for a seed. Raises `InvalidArgumentError` for anything else."""
    check_count("n_samples", n_samples, 1)
    if is_key(seed):
        check_not_forked("a seed that is a key")
        return seed_from_key(seed), int(n_samples)
    check_count("seed", seed, 0)
    if int(seed) >= 2**64:
        raise InvalidArgumentError(f"seed is {seed!r}; give a whole number below 2**64")
    return int(seed), int(n_samples)
