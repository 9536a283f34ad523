"""One pass over the data: the curvature takes every point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from hoarfrost.curvature.stream import Piece
from hoarfrost.curvature.sums import Sums
from hoarfrost.progress import progress_bar
from hoarfrost.types import Array


class Accumulator(Protocol):
    """What adds up the curvature of points."""

    def add(self, outputs: Array, block: Array) -> None:
        """Add some points: their outputs ``(B, C)``, and their layer inputs or rows."""


def assemble(
    pieces: Iterable[Piece],
    curvature: Accumulator,
    sums: Sums,
    *,
    num_pieces: int | None,
    progress: bool,
    skip: int = 0,
    after: Callable[[Sums, Piece], object] | None = None,
) -> Sums:
    """Add all points to the curvature, and to the sums, which are given back.

    Parameters
    ----------
    pieces : iterable of Piece
        With targets, as `hoarfrost.curvature.stream.stream` gives them, without those to skip.
    curvature : object with ``add(outputs, block)``
        Changed in place.
    num_pieces : int or None
        What the progress bar counts up to, where it is known.
    skip : int
        How many pieces are in the curvature and the sums already; the bar begins there.
    after : callable, optional
        Called with the sums and the piece that was added last.
    """
    with progress_bar(
        description="Curvature", total=num_pieces, enabled=progress, unit="piece"
    ) as bar:
        bar.update(skip)
        for piece in pieces:
            curvature.add(piece.outputs, piece.block)
            sums = sums.add(piece)
            if after is not None:
                after(sums, piece)
            del piece  # its memory goes to the next one
            bar.update()
        if bar.total is not None and bar.n < bar.total:
            # A last batch that is smaller has fewer pieces than were counted on.
            bar.total = bar.n
            bar.refresh()
    return sums
