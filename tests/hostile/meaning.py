"""What a hostile value means, and so what may come of a call with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# A value's name and its parameters, all of JSON: from them and a right value it can be made again.
Recipe = tuple[Any, ...]


@dataclass(frozen=True)
class Same:
    """Means what `plain` means: the same result as with that, or a typed error.

    `eps` is the rounding of the dtype that limits the result.
    """

    plain: Any
    eps: float = 2.0**-23


@dataclass(frozen=True)
class Senseless:
    """Means nothing: a typed error, and never a result."""


@dataclass(frozen=True)
class Open:
    """May be right or not: an oracle of the callable judges a result, and it holds no NaN."""


@dataclass(frozen=True)
class Raises:
    """Raises `Boom` when it is called: that comes through, or a typed error that says so."""


class Boom(Exception):
    """Raised by hostile callables."""


Meaning = Same | Senseless | Open | Raises


@dataclass(frozen=True)
class Hostile:
    """A hostile value and its meaning."""

    value: Any
    meaning: Meaning


Maker = Callable[..., Hostile]


def senseless(value: Any) -> Hostile:
    return Hostile(value, Senseless())


def same(value: Any, plain: Any, eps: float = 2.0**-23) -> Hostile:
    return Hostile(value, Same(plain, eps))


def either(value: Any) -> Hostile:
    return Hostile(value, Open())
