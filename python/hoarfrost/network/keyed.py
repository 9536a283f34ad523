"""A network as programs are kept for it: with what its code reads, and without what it holds."""

from __future__ import annotations

import weakref
from typing import Any

from hoarfrost.network.reads import Reads


class KeyedNetwork:
    """Stands for a network in a program's static arguments.

    Parameters
    ----------
    network : Network
        Hashable; it holds nothing that a program must not keep.
    reads : Reads
        What the network's code reads: where that changes, a program is another one. Not kept.
    """

    def __init__(self, network: Any, reads: Reads) -> None:
        self._network = network
        self._version = reads.version()
        self._reads = weakref.ref(reads)

    def settle(self) -> None:
        """Say that a program of this network was just traced."""
        reads = self._reads()
        if reads is not None:
            reads.settle(self._version)

    def __hash__(self) -> int:
        return hash((self._network, self._version))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyedNetwork):
            return NotImplemented
        return self._version == other._version and bool(self._network == other._network)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def settle(network: Any) -> None:
    """Say that a program of a network, as its `unowned` gives it, was just traced."""
    own = getattr(network, "settle", None)
    if own is not None:
        own()
