"""How threads take turns at one posterior.

A verb that reads works on a copy of the posterior as it stood when the call began, which no other
thread changes: readers wait for nobody but a verb that changes the posterior, and only to begin.
Verbs that change it have it to themselves and put what they found in place at once. What posteriors
of one fit share, their curvature, has a turn of its own, taken after a posterior's and never
before it.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar

from hoarfrost.memory import memory_errors


class Turn:
    """A lock that its own thread may take again, and that a forked child finds free.

    Attributes
    ----------
    lock : threading.RLock
        Taken by ``with turn.lock``, which leaves no gap for a Ctrl-C.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _TURNS.add(self)


_TURNS: weakref.WeakSet[Turn] = weakref.WeakSet()


def _free_all() -> None:
    # The threads that held them are not in the child.
    for turn in _TURNS:
        turn.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)


class Shared(Protocol):
    """What threads share: it has a turn, and can say what it is now."""

    @property
    def turn(self) -> Turn:
        """Of its verbs."""

    def now(self) -> Self:
        """A copy as it stands, which no other thread changes."""


One = TypeVar("One", bound=Shared)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def reads(
    verb: Callable[Concatenate[One, Arguments], Result],
) -> Callable[Concatenate[One, Arguments], Result]:
    """A verb that works on the posterior as it stands when it is called."""

    @functools.wraps(verb)
    def run(self: One, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with memory_errors(verb.__name__):
            return verb(self.now(), *args, **kwargs)

    return run


def changes(
    verb: Callable[Concatenate[One, Arguments], Result],
) -> Callable[Concatenate[One, Arguments], Result]:
    """A verb that changes the posterior, and waits until no other one does."""

    @functools.wraps(verb)
    def run(self: One, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with memory_errors(verb.__name__), self.turn.lock:
            return verb(self, *args, **kwargs)

    return run
