"""Compiled programs of networks: shared by equal ones, and gone with what a network holds."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import jax

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.fork import check_not_forked
from hoarfrost.network.base import Network
from hoarfrost.network.keyed import settle

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
            @functools.wraps(function)
            def own(network: Network, *arguments: Any) -> Any:
                result = function(network, *arguments)
                settle(network)
                return result

            names = ("network", *static)
            return jax.jit(own, static_argnames=names, donate_argnames=donate)

        super().__init__(make)

    def __call__(self, network: Network, *arguments: Any) -> Any:
        """Run the program.

        Raises
        ------
        ForkedProcessError
            In a child of a process that has used JAX.
        InvalidArgumentError
            If its arguments lie on different devices.
        """
        check_not_forked("the network")
        try:
            return self.of(network)(network.unowned, *arguments)
        except ValueError as error:
            if "incompatible devices" not in str(error):
                raise
            raise InvalidArgumentError(_described(arguments)) from error

    def lower(self, network: Network, *arguments: Any) -> Any:
        """The program before it is compiled."""
        check_not_forked("the network")
        return self.of(network).lower(network.unowned, *arguments)

    def eval_shape(self, network: Network, *arguments: Any) -> Any:
        """Shapes of the results; nothing is run."""
        check_not_forked("the network")
        return self.of(network).eval_shape(network.unowned, *arguments)


def _described(arguments: tuple[Any, ...]) -> str:
    places: dict[str, list[str]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(arguments)[0]:
        if isinstance(leaf, jax.Array):
            name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
            kind = f"{leaf.dtype}{list(leaf.shape)}"
            where = ", ".join(sorted(map(str, leaf.devices())))
            places.setdefault(where, []).append(f"{name} {kind}".strip())
    found = "; ".join(f"{where}: {', '.join(names[:3])}" for where, names in places.items())
    return (
        f"parameters and data lie on different devices ({found}); bring them together with "
        "jax.device_put(tree, device), or give NumPy arrays"
    )
