"""Step schedules, where code written for Fortuna looks for them."""

from hoarfrost.methods.schedules import (
    constant_schedule,
    constant_schedule_with_cosine_burnin,
    cosine_schedule,
    cyclical_cosine_schedule_with_const_burnin,
    polynomial_schedule,
)

__all__ = [
    "constant_schedule",
    "constant_schedule_with_cosine_burnin",
    "cosine_schedule",
    "cyclical_cosine_schedule_with_const_burnin",
    "polynomial_schedule",
]
