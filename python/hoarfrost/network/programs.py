"""Compiled programs of networks: shared by equal ones, and gone with what a network holds."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import jax

from hoarfrost.network.base import Network

Cached = TypeVar("Cached")


class PerNetwork(Generic[Cached]):
    """Something kept for networks, made once for all that hold nothing, and once for each owner.

    A closure may hold arrays of any size. What is kept for it must not keep it: it is found by a
    weak reference, given the network without its owner, and goes with it.

    Parameters
    ----------
    make : callable ()
        Makes what is kept.
    """

    def __init__(self, make: Callable[[], Cached]) -> None:
        self._make = make
        self.shared = make()
        self._owned: weakref.WeakKeyDictionary[Any, Cached] = weakref.WeakKeyDictionary()

    def of(self, network: Network) -> Cached:
        """What is kept for this network."""
        owner = network.owner
        if owner is None:
            return self.shared
        if owner not in self._owned:
            self._owned[owner] = self._make()
        return self._owned[owner]


class NetworkProgram(PerNetwork[Any]):
    """A function ``function(network, ...)`` as a jitted program, the network static.

    Parameters
    ----------
    function : callable
        Its first argument is `network`.
    static, donate : sequence of str
        Names of further arguments that are static, or whose buffers are used again.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        static: Sequence[str] = (),
        donate: Sequence[str] = (),
    ) -> None:
        def make() -> Any:
            # A function of its own: JAX keeps what it traces for as long as the function lives.
            own = functools.wraps(function)(functools.partial(function))
            names = ("network", *static)
            return jax.jit(own, static_argnames=names, donate_argnames=donate)

        super().__init__(make)

    def __call__(self, network: Network, *arguments: Any) -> Any:
        """Run the program."""
        return self.of(network)(network.unowned, *arguments)

    def lower(self, network: Network, *arguments: Any) -> Any:
        """The program before it is compiled."""
        return self.of(network).lower(network.unowned, *arguments)

    def eval_shape(self, network: Network, *arguments: Any) -> Any:
        """Shapes of the results; nothing is run."""
        return self.of(network).eval_shape(network.unowned, *arguments)
