"""What the parts of a configuration say of an argument that they cannot take."""

from __future__ import annotations

from typing import Any

from hoarfrost.checks import LARGEST_COUNT, is_whole, shown
from hoarfrost.errors import InvalidArgumentError


def invalid(name: str, expected: str, value: Any) -> InvalidArgumentError:
    """The error that names an argument, what it must be and what it is."""
    return InvalidArgumentError(f"{name} must be {expected}, but it is {shown(value)}")


def check_least(name: str, value: Any, least: int) -> None:
    """Raise `InvalidArgumentError` unless `value` is an integer from `least` to 2**31 - 1."""
    if not is_whole(value, least):
        raise invalid(name, f"an integer of at least {least}", value)
    if value > LARGEST_COUNT:
        raise invalid(name, f"an integer of at most {LARGEST_COUNT}", value)
