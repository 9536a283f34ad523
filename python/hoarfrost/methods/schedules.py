"""Step sizes of stochastic-gradient samplers, as functions of the number of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_count, check_number, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.types import Array

# Number of the step, from 0 -> step size; numbers, or arrays of them.
StepSchedule = Callable[[Any], Any]


def constant_schedule(init_step_size: float) -> StepSchedule:
    """The same step size throughout."""
    size = check_number("init_step_size", init_step_size, positive=True)
    return lambda step: size + 0.0 * step


def constant_schedule_with_cosine_burnin(
    init_step_size: float, final_step_size: float, burnin_steps: int
) -> StepSchedule:
    """From the first size to the second along half a cosine, then constant."""
    first = check_number("init_step_size", init_step_size, positive=True)
    last = check_number("final_step_size", final_step_size, positive=True)
    steps = check_count("burnin_steps", burnin_steps, 1)

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        done = xp.minimum(step / steps, 1.0)
        return last + (first - last) * 0.5 * (1 + xp.cos(np.pi * done))

    return schedule


def cosine_schedule(init_step_size: float, total_steps: int) -> StepSchedule:
    """Half a cosine from the first size to 0."""
    first = check_number("init_step_size", init_step_size, positive=True)
    steps = check_count("total_steps", total_steps, 1)

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        return first * 0.5 * (1 + xp.cos(np.pi * xp.minimum(step / steps, 1.0)))

    return schedule


def cyclical_cosine_schedule_with_const_burnin(
    init_step_size: float, burnin_steps: int, cycle_length: int
) -> StepSchedule:
    """Constant, then half a cosine from that size to 0 in every cycle (Zhang et al., 2020)."""
    first = check_number("init_step_size", init_step_size, positive=True)
    burnin = check_count("burnin_steps", burnin_steps, 0)
    cycle = check_count("cycle_length", cycle_length, 1)

    def schedule(step: Any) -> Any:
        xp = _namespace(step)
        place = xp.maximum(step - burnin - 1, 0) % cycle
        return first * 0.5 * (1 + xp.cos(np.pi * place / cycle))

    return schedule


def polynomial_schedule(a: float = 1.0, b: float = 1.0, gamma: float = 0.55) -> StepSchedule:
    """``a (b + step)^-gamma`` (Welling and Teh, 2011)."""
    scale = check_number("a", a, positive=True)
    offset = check_number("b", b, positive=True)
    power = check_number("gamma", gamma, positive=True)
    return lambda step: scale * (offset + step) ** (-power)


def step_sizes(name: str, schedule: Any, steps: int) -> Array:
    """The sizes of so many steps, float64, shape ``(steps,)``.

    Parameters
    ----------
    name : str
        The argument's, for the text of errors.
    schedule : float or callable
        A size for all steps, or a function of the number of the step.

    Raises
    ------
    InvalidArgumentError
        If it is neither, or a size is not a positive finite number (0 at the end of a cosine is
        allowed).
    """
    if not callable(schedule):
        return np.full(steps, check_number(name, schedule, positive=True))
    places = np.arange(steps)
    try:
        sizes = np.asarray(schedule(places), np.float64)
    except (TypeError, ValueError, jax.errors.JAXTypeError):
        sizes = np.empty(())
    if sizes.shape != (steps,):
        sizes = np.array([float(schedule(int(step))) for step in places], np.float64)
    wrong = ~np.isfinite(sizes) | (sizes < 0)
    if wrong.any() or not sizes.any():
        first = int(np.flatnonzero(wrong)[0]) if wrong.any() else 0
        raise InvalidArgumentError(
            f"{name} gives {shown(float(sizes[first]))} at step {first}; it must give positive "
            "finite numbers"
        )
    return sizes


def _namespace(step: Any) -> Any:
    return jnp if isinstance(step, jax.Array) else np
