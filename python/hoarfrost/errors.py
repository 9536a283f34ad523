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


class SelectionError(HoarfrostError, ValueError):
    """A selector of trainable parameters is malformed or selects nothing."""


class NotFittedError(HoarfrostError, RuntimeError):
    """A posterior or predictive was used before it was fitted."""


class StructureError(HoarfrostError, RuntimeError):
    """The network does not have, on every batch, the layer structure found on the first."""


class CurvatureStateError(HoarfrostError, RuntimeError):
    """A curvature was used after it was interrupted half way or factored in its own memory."""


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
    pivot : int
        Index of the first pivot that is not positive.
    least_prior_precision : float
        ``P * eps * |A|``, the least prior precision that rounding allows.
    with_prior_precision : callable or None
        Raised by a fit whose curvature is kept: the posterior under another prior precision,
        without another pass over the data.
    """

    with_prior_precision: Callable[[Any], Any] | None = None

    def __init__(self, message: str, pivot: int, least_prior_precision: float) -> None:
        super().__init__(message)
        self.pivot = pivot
        self.least_prior_precision = least_prior_precision


class InternalError(HoarfrostError, RuntimeError):
    """A fault of Hoarfrost itself; please report it with its message."""
