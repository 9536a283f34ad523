"""Checks of plain arguments: whole numbers, positive numbers, switches, seeds and keys.

A number may be Python's, NumPy's or JAX's, and an array of no axes; what is given back is Python's.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.fork import check_not_forked

# No count of anything is larger: what would take more does not fit anywhere.
LARGEST_COUNT = 2**31 - 1


def plain(value: Any) -> Any:
    """An array of no axes as the number that it holds; anything else as it is."""
    array = isinstance(value, jax.Array | np.ndarray) and not isinstance(value, jax.core.Tracer)
    if array and value.ndim == 0 and jnp.issubdtype(value.dtype, np.number):
        return value.item()
    return value


def real_numbers(value: Any) -> np.ndarray | None:
    """Numbers or an array of them in float64; None for anything else, NaN and infinity included."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return None
    real = jnp.issubdtype(array.dtype, np.integer) or jnp.issubdtype(array.dtype, np.floating)
    if not real or array.dtype.kind == "m":  # durations count as whole numbers to NumPy
        return None
    with np.errstate(over="ignore"):  # longer than float64: infinite there
        found: np.ndarray = array.astype(np.float64)
    return found if np.isfinite(found).all() else None


def is_whole(value: Any, least: int) -> bool:
    """Whether `value` is a whole number of at least `least`; True and False are none."""
    whole = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    return whole and int(value) >= least


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number; True and False are none."""
    real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    try:
        return real and math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def check_integer(name: str, value: Any, least: int = 1, hint: str = "") -> int:
    """The argument as an int; raises `InvalidArgumentError` unless it is at least `least`."""
    value = plain(value)
    if not is_whole(value, least):
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise InvalidArgumentError(f"{name} must be {kind}, but it is {shown(value)}{hint}")
    return int(value)


def check_counts(**counts: Any) -> None:
    """Raise `InvalidArgumentError` unless every argument is a positive integer."""
    for name, value in counts.items():
        if not is_whole(value, 1):
            raise InvalidArgumentError(f"{name} is {shown(value)}; give a positive integer")
        _check_size(name, int(value))


def check_count(name: str, value: Any, least: int) -> int:
    """The argument as an int; raises unless it is a whole number of at least `least`."""
    value = plain(value)
    if not is_whole(value, least):
        raise InvalidArgumentError(
            f"{name} is {shown(value)}; give a whole number of at least {least}"
        )
    return _check_size(name, int(value))


def _check_size(name: str, value: int) -> int:
    if value > LARGEST_COUNT:
        raise InvalidArgumentError(f"{name} is {shown(value)}; give at most {LARGEST_COUNT}")
    return value


def shown(value: Any) -> str:
    """A value as a message shows it: not a whole array, nor more digits than one can read."""
    if is_whole(value, 0) and int(value).bit_length() > 100:
        return f"a number of {int(value).bit_length()} bits"
    try:
        text = repr(value)
    except Exception:  # a message must not fail
        return f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}... (a {type(value).__name__})"


def is_choice(value: Any, choices: Iterable[str]) -> bool:
    """Whether `value` is one of these words; an array is none, whatever it holds."""
    return isinstance(value, str) and value in choices


def check_switch(name: str, value: Any) -> bool:
    """The argument as a bool; raises `InvalidArgumentError` unless it is one."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidArgumentError(f"{name} must be True or False, but it is {shown(value)}")
    return bool(value)


def check_number(name: str, value: Any, *, positive: bool, hint: str = "") -> float:
    """The argument as a float, if it is finite and not negative (`positive`: nor 0)."""
    value = plain(value)
    if not is_number(value) or value < 0 or (positive and value == 0):
        least = "above 0" if positive else "of at least 0"
        raise InvalidArgumentError(
            f"{name} must be a finite number {least}, but it is {shown(value)}{hint}"
        )
    return float(value)


def check_probability(name: str, value: Any) -> float:
    """The argument as a float; raises unless it lies between 0 and 1, both excluded."""
    value = plain(value)
    if not is_number(value) or not 0 < value < 1:
        raise InvalidArgumentError(
            f"{name} is {shown(value)}; give a number between 0 and 1, both excluded"
        )
    return float(value)


def check_path(name: str, value: Any) -> str:
    """The argument as an absolute path; raises `InvalidArgumentError` unless it is a path."""
    try:
        path = os.fspath(value)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidArgumentError(f"{name} is {shown(value)}; give a path, a str or a Path")
    return os.path.abspath(path)


def check_key(rng: Any, name: str = "rng") -> jax.Array:
    """The argument as a JAX key: one of the old kind or the new, or that of a seed."""
    check_not_forked("a random key")
    if is_key(rng):
        key: jax.Array = rng
        return key
    rng = plain(rng)
    if not is_whole(rng, 0) or int(rng) >= 2**63:
        raise InvalidArgumentError(
            f"{name} is {shown(rng)}; give a key such as jax.random.PRNGKey(0), or a seed from 0 "
            "to 2**63 - 1"
        )
    made: jax.Array = jax.random.PRNGKey(int(rng))
    return made


def seed_from_key(key: jax.Array) -> int:
    """A seed of 62 bits for streams that are not JAX's."""
    high, low = (int(word) for word in jax.random.bits(key, (2,), "uint32"))
    return ((high << 32) | low) >> 2


def is_key(value: Any) -> bool:
    """Whether `value` is one JAX key, of the old kind or the new."""
    if not isinstance(value, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value.ndim == 0
    config: Any = jax.config
    shape = _raw_key_shape(config.jax_default_prng_impl)
    return bool(value.dtype == np.uint32 and value.shape == shape)


@functools.cache
def _raw_key_shape(generator: str) -> tuple[int, ...]:
    """Of keys of the old kind, which depends on the generator that JAX is set to."""
    shape: tuple[int, ...] = jax.eval_shape(jax.random.PRNGKey, 0).shape
    return shape


def check_draws(seed: Any, n_samples: Any) -> tuple[int, int]:
    """Both as ints; a key stands for a seed. Raises `InvalidArgumentError` for anything else."""
    n_samples = check_count("n_samples", n_samples, 1)
    if is_key(seed):
        check_not_forked("a seed that is a key")
        return seed_from_key(seed), n_samples
    seed = plain(seed)
    if not is_whole(seed, 0) or int(seed) >= 2**64:
        raise InvalidArgumentError(
            f"seed is {shown(seed)}; give a whole number of at least 0 and below 2**64, or a key "
            "such as jax.random.PRNGKey(0)"
        )
    return int(seed), n_samples
