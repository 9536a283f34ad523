"""Outputs and targets as a likelihood takes them: one row for each position of an example."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import is_whole, plain, shown
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.numbers import check_range
from hoarfrost.data.positions import in_rows
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.likelihood.base import Classification, Likelihood, check_finite_targets
from hoarfrost.likelihood.density import takes_counts
from hoarfrost.types import Tree


def checked_positions(likelihood: Likelihood, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Positions of outputs of this shape, ``(B, *positions, C)``; () where an example is one point.

    Raises
    ------
    ShapeError
        If the outputs do not fit the likelihood.
    """
    positions = tuple(shape[1:-1])
    with _own_shape("the outputs", shape, positions):
        likelihood.check_outputs((shape[0], shape[-1]) if positions else shape)
    return positions


def checked_rows(
    batch: CheckedBatch,
    likelihood: Likelihood,
    num_outputs: int,
    positions: tuple[int, ...] = (),
    ignored_label: int | None = None,
) -> CheckedBatch:
    """A batch with its targets in rows, one a position, those that count checked.

    Raises
    ------
    ShapeError, InvalidArgumentError, NonFiniteError
        If they do not fit.
    """
    before = np.shape(batch.targets)
    batch = rows_of(batch, likelihood, positions, ignored_label)
    check_range(batch.targets, "targets", f"batch {batch.index} of {batch.argument}")
    targets = np.asarray(batch.targets)
    if positions:
        # Here an index is that of the targets as they came.
        check_finite_targets(targets.reshape(before), batch.index)
    counted = targets if batch.mask is None else targets[batch.mask]
    with _own_shape("the targets", before, positions):
        likelihood.check_targets(counted, num_outputs, batch.index)
    return batch


def rows_of(
    batch: CheckedBatch,
    likelihood: Likelihood,
    positions: tuple[int, ...] = (),
    ignored_label: int | None = None,
) -> CheckedBatch:
    """A batch that was checked before with its targets in rows.

    Counts that JAX has no integers for, beyond 2^31, become float64, in which their densities are
    computed: exact to 2^53, and beyond that to the rounding of those.
    """
    batch = in_rows(batch, positions, ignored_label)
    targets = batch.targets
    if not isinstance(targets, np.ndarray) or targets.dtype.kind not in "iu":
        return batch
    if targets.dtype == jax.dtypes.canonicalize_dtype(targets.dtype) or not targets.size:
        return batch
    limits = np.iinfo(jax.dtypes.canonicalize_dtype(targets.dtype))
    small = limits.min <= targets.min() and targets.max() <= limits.max
    if small or not takes_counts(likelihood):
        return batch
    return dataclasses.replace(batch, targets=targets.astype(np.float64))


def check_ignored_label(label: Any, likelihood: Likelihood) -> int | None:
    """The label of targets that do not count, if it can be one.

    Raises
    ------
    InvalidArgumentError
        If it is no whole number, or the likelihood is not one of classes.
    """
    if label is None:
        return None
    label = plain(label)
    if not is_whole(label, -(2**63)) or label >= 2**63:
        raise InvalidArgumentError(
            f"ignored_label is {shown(label)}; give the label of targets that do not count, a "
            "whole number such as -100"
        )
    if not isinstance(likelihood, Classification):
        raise InvalidArgumentError(
            f"ignored_label is {label}, but targets of the {likelihood.name} likelihood are no "
            "labels; give them as pairs (targets, mask), the mask True where a target counts"
        )
    return int(label)


@dataclass(frozen=True, eq=False)
class Points:
    """What of a batch is a data point: each position of an example that counts.

    Attributes
    ----------
    likelihood : Likelihood
        Of the targets.
    output_shape : callable (inputs) -> tuple of int
        Shape of the outputs, from shapes alone.
    num_outputs : int
        ``C``.
    positions : tuple of int
        Of an example of the first batch.
    ignored_label : int or None
        Targets with this label do not count.
    masked : bool
        Whether batches come with a mask, or may hold the ignored label.
    """

    likelihood: Likelihood
    output_shape: Callable[[Tree], tuple[int, ...]]
    num_outputs: int
    positions: tuple[int, ...] = ()
    ignored_label: int | None = None
    masked: bool = False
    _known: dict[Any, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        likelihood: Likelihood,
        output_shape: Callable[[Tree], tuple[int, ...]],
        first: CheckedBatch,
        ignored_label: int | None = None,
    ) -> Points:
        """Those of a loader that begins with this batch, which is checked.

        Raises
        ------
        ShapeError, InvalidArgumentError, NonFiniteError
            If its outputs or its targets do not fit.
        """
        shape = output_shape(first.inputs)
        positions = checked_positions(likelihood, shape)
        if shape[0] != first.size:
            raise ShapeError(
                f"the network's outputs have shape {shape} for a batch of {first.size} points; "
                "the first axis must run over the points"
            )
        masked = first.mask is not None or ignored_label is not None
        points = cls(likelihood, output_shape, shape[-1], positions, ignored_label, masked)
        points.checked(first)
        return points

    def of_layer(self, output_shape: Callable[[Tree], tuple[int, ...]]) -> Points:
        """The same of features: outputs of the last layer alone."""
        return dataclasses.replace(self, output_shape=output_shape, _known={})

    def checked(self, batch: CheckedBatch) -> CheckedBatch:
        """A batch with its targets in rows, those that count checked; see `checked_rows`."""
        known = self.likelihood, self.num_outputs, self._positions(batch), self.ignored_label
        return checked_rows(batch, *known)

    def in_rows(self, batch: CheckedBatch) -> CheckedBatch:
        """The same for a batch that was checked before."""
        return rows_of(batch, self.likelihood, self._positions(batch), self.ignored_label)

    def _positions(self, batch: CheckedBatch) -> tuple[int, ...]:
        """Those of a batch: a network over tokens may take sequences of any length.

        Raises
        ------
        ShapeError
            If its outputs have another number of axes, or of outputs.
        """
        if not self.positions:
            return ()
        shapes = tuple(np.shape(leaf)[1:] for leaf in jax.tree.leaves(batch.inputs))
        if shapes not in self._known:
            shape = self.output_shape(batch.inputs)
            if len(shape) != len(self.positions) + 2 or shape[-1] != self.num_outputs:
                raise ShapeError(
                    f"the network's outputs for batch {batch.index} have shape {shape}, and those "
                    f"for batch 0 positions {self.positions} and {self.num_outputs} outputs; all "
                    "need as many axes and outputs"
                )
            self._known[shapes] = shape[1:-1]
        return self._known[shapes]


def num_counted(batch: CheckedBatch) -> int:
    """Data points of a batch whose targets are in rows."""
    return len(batch.targets) if batch.mask is None else int(np.count_nonzero(batch.mask))


@contextlib.contextmanager
def _own_shape(what: str, shape: tuple[int, ...], positions: tuple[int, ...]) -> Iterator[None]:
    """Errors of a shape say what it was before each position was a point."""
    try:
        yield
    except ShapeError as error:
        if not positions:
            raise
        raise ShapeError(
            f"{error} ({what} have shape {shape}: each of the positions {positions} is a point)"
        ) from error
