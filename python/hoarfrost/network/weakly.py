"""A network by a weak reference, for programs that must not keep what it holds."""

from __future__ import annotations

import weakref
from typing import Any


class WeakNetwork:
    """Stands for a network in a program's static arguments; usable while that network lives.

    Parameters
    ----------
    network : Network
        It can be referred to weakly.
    """

    def __init__(self, network: Any) -> None:
        self._reference = weakref.ref(network)
        self._hash = hash(network)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeakNetwork):
            return NotImplemented
        return self._reference is other._reference

    def __getattr__(self, name: str) -> Any:
        network = self._reference()
        if network is None:
            raise ReferenceError("the network of this program is gone")
        return getattr(network, name)
