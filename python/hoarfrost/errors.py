"""Every error that Hoarfrost raises on purpose.

Each class is also the built-in (or NumPy) class that a caller would expect, so that existing
``except ValueError`` or ``except numpy.linalg.LinAlgError`` clauses keep working.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class HoarfrostError(Exception):
    """Base class of all errors raised by Hoarfrost."""


class InvalidArgumentError(HoarfrostError, ValueError):
    """An argument has a value or a type that is not accepted."""


class ShapeError(HoarfrostError, ValueError):
    """An array does not have the shape that the other arguments imply."""


class NonFiniteError(HoarfrostError, ValueError):
    """A NaN or an infinity where a finite number is needed."""


class DataError(HoarfrostError, ValueError):
    """A data loader is empty, used up, or gives batches that do not fit together."""


class BatchShapeError(DataError, ShapeError):
    """The arrays of a batch differ in length, or one of them has no axis of points."""


class SelectionError(HoarfrostError, ValueError):
    """A selector of trainable parameters is malformed or selects nothing."""


class NotFittedError(HoarfrostError, RuntimeError):
    """A posterior or predictive was used before it was fitted."""


class CheckpointError(HoarfrostError, ValueError):
    """A checkpoint is damaged, of a newer version, of another method, or of another model."""


class CheckpointAccessError(CheckpointError, OSError):
    """There is no checkpoint at a path, or the system does not let it be read or written."""


class StructureError(HoarfrostError, RuntimeError):
    """The network does not have, on every batch, the layer structure found on the first."""


class MixedPointsError(HoarfrostError, ValueError):
    """A network's outputs for a point depend on the other points of its batch."""


class ForkedProcessError(HoarfrostError, RuntimeError):
    """JAX is needed in a process that was forked from one that had used it."""


class CurvatureStateError(HoarfrostError, RuntimeError):
    """A curvature was factored in its own memory, or an interrupted call was not made again."""


class CopyError(HoarfrostError, TypeError):
    """What `pickle` or `copy` was asked to copy holds memory of the compiled core."""


class SavedFileError(HoarfrostError, ValueError):
    """A saved file is missing, damaged, newer or something else, or could not be written."""


class ThreadLimitError(HoarfrostError, RuntimeError):
    """The system does not allow the worker threads that were asked for (RAYON_NUM_THREADS)."""


class MemoryLimitError(HoarfrostError, MemoryError):
    """A posterior does not fit in the memory there is, or an allocation failed.

    Attributes
    ----------
    bytes_needed : int
        Bytes that were asked for.
    bytes_available : int or None
        Bytes that were there, or None where the system did not say.
    """

    def __init__(self, message: str, bytes_needed: int, bytes_available: int | None = None) -> None:
        super().__init__(message)
        self.bytes_needed = bytes_needed
        self.bytes_available = bytes_available


class NotPositiveDefiniteError(HoarfrostError, np.linalg.LinAlgError):
    """A precision matrix is not positive definite to working accuracy.

    Attributes
    ----------
    pivot : int or None
        Index of the first pivot that is not positive.
    least_prior_precision : float
        A prior precision that surely does: 20 times ``max_i A_ii`` times the relative rounding.
    with_prior_precision : callable or None
        Raised by a fit whose curvature is kept: the posterior under another prior precision,
        without another pass over the data.
    """

    with_prior_precision: Callable[[Any], Any] | None = None

    def __init__(self, message: str, pivot: int | None, least_prior_precision: float) -> None:
        super().__init__(
            f"{message}; give a prior_precision of at least {least_prior_precision:.3g}, or train "
            "fewer parameters"
        )
        self.reason = message
        self.pivot = pivot
        self.least_prior_precision = least_prior_precision

    def at_scale(self, scale: float) -> NotPositiveDefiniteError:
        """The same where all precisions are `scale` times as large."""
        return type(self)(self.reason, self.pivot, scale * self.least_prior_precision)


class PriorTooSmallError(NotPositiveDefiniteError):
    """A prior precision is so small that rounding decides what comes out.

    In some directions the curvature is lost in the rounding of the others, and the prior is not
    clearly more than that: variances and evidence would look like any others and be wrong.

    Attributes
    ----------
    prior_precision : float
        The smallest that was given.
    least_prior_precision : float
        One that surely does.
    share : float
        What part of all directions is concerned.
    """

    def __init__(
        self, message: str, prior_precision: float, least_prior_precision: float, share: float
    ) -> None:
        super().__init__(
            f"a prior_precision of {prior_precision:.3g} is too small beside the curvature: "
            f"{message}, and so are {share:.1%} of all directions",
            None,
            least_prior_precision,
        )
        self.detail = message
        self.prior_precision = prior_precision
        self.share = share

    def at_scale(self, scale: float) -> PriorTooSmallError:
        """The same where all precisions are `scale` times as large."""
        precisions = (scale * self.prior_precision, scale * self.least_prior_precision)
        return type(self)(self.detail, *precisions, self.share)


class InternalError(HoarfrostError, RuntimeError):
    """A fault of Hoarfrost itself; please report it with its message."""
