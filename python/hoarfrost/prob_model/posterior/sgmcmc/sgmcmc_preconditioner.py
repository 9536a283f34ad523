"""Preconditioners, where code written for Fortuna looks for them."""

from hoarfrost.methods.preconditioners import (
    identity_preconditioner,
    rmsprop_preconditioner,
)

__all__ = [
    "identity_preconditioner",
    "rmsprop_preconditioner",
]
