"""Which running statistics training moves."""

from __future__ import annotations

from collections.abc import Mapping

from hoarfrost.types import Path


def moves(module: Path, owners: Mapping[Path, bool]) -> bool:
    """Whether a statistic of the module at this path moves with the parameters there.

    A statistic belongs to the module that it sits in, or, where that has no parameters of its own,
    to the nearest module around it that has. It moves unless all of the parameters there are
    frozen.

    Parameters
    ----------
    module : tuple of str or int
        Where the statistic sits.
    owners : mapping of path to bool
        Whether each parameter is trained, by its path.
    """
    while True:
        below = [chosen for path, chosen in owners.items() if path[: len(module)] == module]
        if below or not module:
            return any(below)
        module = module[:-1]
