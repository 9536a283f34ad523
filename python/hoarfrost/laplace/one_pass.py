"""One pass over data that adds their curvature up: for a fit, and for more data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np

from hoarfrost.curvature.assembly import assemble
from hoarfrost.curvature.stream import Piece
from hoarfrost.curvature.sums import Sums
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.errors import DataError
from hoarfrost.laplace.evidence.noise import Residuals
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.structure.base import Curvature
from hoarfrost.likelihood import Gaussian, Likelihood

After = Callable[[Sums, Piece], object]


def no_sums(linearised: LinearisedNetwork) -> Sums:
    """Of no points."""
    gaussian = isinstance(linearised.likelihood, Gaussian)
    return Sums(squares=np.zeros(linearised.num_outputs) if gaussian else None)


def add_points(
    linearised: LinearisedNetwork,
    curvature: Curvature,
    first: CheckedBatch,
    rest: Iterable[CheckedBatch],
    num_batches: int | None,
    progress: bool,
    sums: Sums,
    *,
    skip: int = 0,
    after: After | None = None,
) -> Sums:
    """Go over the data once: the curvature takes every point.

    Parameters
    ----------
    first, rest : CheckedBatch, iterable of CheckedBatch
        The data; where they have positions, of any number.
    sums : Sums
        What was added before.
    skip, after
        As for `hoarfrost.curvature.assembly.assemble`.

    Raises
    ------
    DataError
        If no target counts.
    """
    size = linearised.piece_size(first.size, linearised.fitting_pass())
    before = sums.num_data if not skip else 0
    sums = assemble(
        linearised.fitting_pieces(itertools.chain([first], rest), first.size, skip),
        curvature,
        sums,
        num_pieces=None if num_batches is None else num_batches * -(-first.size // size),
        progress=progress,
        skip=skip,
        after=after,
    )
    if sums.num_data == before:
        raise DataError(
            "no target of data_loader counts: every one is masked or the ignored label; check the "
            "mask, which is True where a target counts, and ignored_label"
        )
    return sums


def residuals_of(likelihood: Likelihood, sums: Sums) -> Residuals | None:
    """What the data say about Gaussian noise of a given size."""
    if not isinstance(likelihood, Gaussian):
        return None
    assert sums.squares is not None
    noise = likelihood.noise_precision(len(sums.squares))
    return Residuals(sums.num_data, sums.squares, noise)
