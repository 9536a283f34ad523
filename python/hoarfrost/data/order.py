"""Whether a source of batches gives its points in the same order at each pass."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from hoarfrost.data.batch import INPUTS, num_points
from hoarfrost.errors import DataError


@dataclass(eq=False)
class FixedOrder:
    """The order of the first pass, by the targets, to which all later ones are held.

    Inputs and targets that are taken apart, and the two parts of a split, come from passes of their
    own: from a loader that shuffles by itself they would not belong together. Where the targets
    come in the same order, inputs fit them, though they may have been changed at random.
    """

    _seen: dict[int | None, list[tuple[int, int]]] = field(default_factory=dict)

    def follow(
        self, epoch: int | None, batches: Iterator[Any], names: tuple[str, ...]
    ) -> Iterator[Any]:
        """The batches as they are.

        Raises
        ------
        DataError
            At the first batch that differs from that of an earlier pass of the same epoch.
        """
        if epoch not in self._seen:
            # Of the epochs that are gone over one after the other the last is enough.
            self._seen = {key: value for key, value in self._seen.items() if key is None}
        seen = self._seen.setdefault(epoch, [])
        for index, batch in enumerate(batches):
            mark = num_points(batch), _checksum(batch, names)
            if index == len(seen):
                seen.append(mark)
            elif seen[index] != mark:
                raise DataError(
                    f"batch {index} is another one than in an earlier pass: this loader shuffles "
                    "by itself, and what is taken apart from it (inputs, targets, the parts of a "
                    "split) does not belong together. Switch that off, or take all points once: "
                    "DataLoader.from_array_data(loader.to_array_data(), shuffle=True)"
                )
            yield batch


def _checksum(batch: Any, names: tuple[str, ...]) -> int:
    # Inputs alone may differ from pass to pass without being in another order.
    if names == INPUTS:
        return 0
    total = 0
    for leaf in jax.tree.leaves(batch[1] if len(names) == 2 else batch):
        total = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data, total)
    return total
