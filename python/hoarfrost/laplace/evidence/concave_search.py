"""The maximum of the evidence over logarithms of prior precisions.

Let ``x`` be the logarithms. ``det(H + diag(exp x))`` is a sum of exponentials of linear functions
of ``x`` with coefficients that are principal minors of ``H``, hence not negative; so ``log det``
is convex, and the evidence is concave: it has one maximum, finite or at a bound. Its derivative is
half of ``gamma_g - penalty_g``, with ``gamma_g = P_g - tau_g tr Sigma_gg`` the number of parameters
that the data determine and ``penalty_g = tau_g |theta_g - theta_0g|^2`` (MacKay, 1992). The
residual ``h_g = log gamma_g - log penalty_g`` has the derivative ``-J`` with ``J`` diagonally
dominant by at least one in every row, its diagonal between 1 and 2, its other entries not positive.
Hence ``|x - x*| <= max |h|`` (a certificate), and ``x + h / 2`` halves the largest error from any
start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoarfrost.types import Array

# A residual below this is MacKay's identity to 5e-7.
TOLERANCE = 5e-7
MAX_EVALUATIONS = 100

# Differences of log-determinants at places that are closer are rounding.
CLOSEST = 2e-3

# Points of a Hermite interpolation, and how many past steps the acceleration looks at.
_INTERPOLATED = 3
_MEMORY = 6


@dataclass(frozen=True, eq=False)
class Point:
    """The evidence and what its derivative consists of, at one place.

    Attributes
    ----------
    x : ndarray
        Logarithms of the precisions, shape ``(G,)``.
    explained, penalty : ndarray
        ``gamma_g`` and ``penalty_g``, shape ``(G,)``.
    evidence, log_det : float
        The evidence, and the log-determinant of the precision.
    sizes : ndarray
        ``P_g``, shape ``(G,)``.
    payload : object
        Whatever belongs to this place.
    """

    x: Array
    explained: Array
    penalty: Array
    evidence: float
    log_det: float
    sizes: Array
    payload: Any = None

    @property
    def gradient(self) -> Array:
        """Of the evidence in the logarithms, shape ``(G,)``."""
        return (self.explained - self.penalty) / 2

    @property
    def residual(self) -> Array:
        """``log gamma - log penalty``, shape ``(G,)``; 0 where rounding hides the difference."""
        rounding = 8 * np.finfo(np.float64).eps * self.sizes
        explained = np.maximum(self.explained, rounding)
        hidden = np.abs(self.explained - self.penalty) <= rounding * (self.penalty > 0)
        residual = np.log(explained) - np.log(np.maximum(self.penalty, 1e-300))
        return np.where(hidden, 0.0, residual)


@dataclass(frozen=True, eq=False)
class Found:
    """Where a search ended.

    Attributes
    ----------
    point : Point
        The place.
    evaluations : int
        Places at which the evidence and its derivative were computed.
    at_bound : ndarray
        Whether each coordinate sits at a bound that the derivative points out of, shape ``(G,)``.
    error : float
        Largest residual, those at a bound aside.
    """

    point: Point
    evaluations: int
    at_bound: Array
    error: float

    @property
    def converged(self) -> bool:
        """Whether the residual is below the tolerance."""
        return self.error <= TOLERANCE


Evaluate = Callable[[Array], Point]


def inward(point: Point, low: float, high: float) -> Array:
    """The residual, 0 where it points out of the bounds."""
    residual = point.residual
    out = ((point.x >= high) & (residual > 0)) | ((point.x <= low) & (residual < 0))
    return np.where(out, 0.0, residual)


def found(point: Point, evaluations: int, low: float, high: float) -> Found:
    """The end of a search at this point."""
    residual, kept = point.residual, inward(point, low, high)
    at_bound = (residual != 0) & (kept == 0)
    return Found(point, evaluations, at_bound, float(np.abs(kept).max()))


def search_one(
    evaluate: Evaluate,
    start: Sequence[Point],
    low: float,
    high: float,
    log_penalty: Callable[[float], float],
) -> Found:
    """The maximum over one logarithm; 4 or 5 evaluations from any start, the start among them.

    The log-determinant comes free with every factor, and its derivative is ``P - gamma``: Hermite
    interpolation of it through the nearest points predicts where ``gamma`` meets the penalty, and
    a bracket, which the slope of the residual between -2 and 0 makes finite, keeps it safe.

    Parameters
    ----------
    start : sequence of Point
        One or more places that are known; the search goes on from the last one.
    log_penalty : callable (float) -> float
        Logarithm of the penalty anywhere.
    """
    points = list(start)
    requested = points[-1].x
    while True:
        point = points[-1]
        low = _raised(low, requested, point.x)
        x, residual = float(point.x[0]), float(point.residual[0])
        done = abs(float(inward(point, low, high)[0])) <= TOLERANCE
        if done or len(points) >= MAX_EVALUATIONS:
            return found(point, len(points), low, high)
        below = [float(p.x[0]) for p in points if p.residual[0] > 0]
        above = [float(p.x[0]) for p in points if p.residual[0] < 0]
        bracket = max([low, *below]), min([high, *above])
        step = _interpolated(points, log_penalty, bracket) if len(points) > 1 else None
        if step is None:
            # One scale for all eigenvalues of H would give this slope.
            share = min(max(float(point.explained[0] / point.sizes[0]), 0.0), 1.0)
            slope = share - 2
            if len(points) > 1 and x != points[-2].x[0]:
                # Places too close for log-determinants are close enough for a secant.
                secant = (residual - float(points[-2].residual[0])) / (x - float(points[-2].x[0]))
                slope = secant if -2 <= secant < -0.1 else slope
            step = x - residual / slope
        if not bracket[0] < step < bracket[1]:
            beyond_high, beyond_low = step >= high and not above, step <= low and not below
            step = high if beyond_high else low if beyond_low else sum(bracket) / 2
        requested = np.array([step])
        points.append(evaluate(requested))


def _raised(low: float, requested: Array, answered: Array) -> float:
    """The lower bound, raised where `evaluate` could not go as low as it was asked to."""
    moved = answered[answered > requested]
    return max(low, float(moved.max())) if moved.size else low


def _interpolated(
    points: list[Point], log_penalty: Callable[[float], float], bracket: tuple[float, float]
) -> float | None:
    """Where the interpolated ``gamma`` meets the penalty, if it does so inside the bracket."""
    nearest = sorted(points, key=lambda p: abs(float(p.residual[0])))[:_INTERPOLATED]
    chosen = [nearest[0]]
    for point in nearest[1:]:
        if all(abs(float(point.x[0] - other.x[0])) > CLOSEST for other in chosen):
            chosen.append(point)
    if len(chosen) < 2:
        return None
    slope = _hermite_slope(
        np.array([float(p.x[0]) for p in chosen]),
        np.array([p.log_det for p in chosen]),
        np.array([float(p.sizes[0] - p.explained[0]) for p in chosen]),
    )
    size = float(chosen[0].sizes[0])

    def residual(x: float) -> float:
        return math.log(max(size - slope(x), 1e-300)) - log_penalty(x)

    low, high = max(bracket[0], nearest[0].x[0] - 30), min(bracket[1], nearest[0].x[0] + 30)
    if residual(low) <= 0 or residual(high) >= 0:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if residual(middle) > 0 else (low, middle)
    return float(low + high) / 2


def _hermite_slope(x: Array, value: Array, slope: Array) -> Callable[[float], float]:
    """The derivative of the polynomial with these values and slopes (divided differences)."""
    centre = float(x.mean())
    nodes = np.repeat(x - centre, 2)
    column, polynomial, basis = np.repeat(value, 2), np.zeros(1), np.ones(1)
    for order in range(len(nodes)):
        polynomial = np.polynomial.polynomial.polyadd(polynomial, column[0] * basis)
        basis = np.polynomial.polynomial.polymul(basis, [-nodes[order], 1.0])
        gaps = nodes[order + 1 :] - nodes[: len(nodes) - order - 1]
        same = gaps == 0
        differences = np.diff(column) / np.where(same, 1.0, gaps)
        column = np.where(same, slope[: len(gaps) // 2 + 1].repeat(2)[: len(gaps)], differences)
    derivative = np.polynomial.polynomial.polyder(polynomial)
    return lambda at: float(np.polynomial.polynomial.polyval(at - centre, derivative))


def search_many(evaluate: Evaluate, start: Point, low: float, high: float) -> Found:
    """The maximum over several logarithms: a contraction, sped up by Anderson's mixing.

    A step by the mixing that does not lower the largest residual is followed by a plain one.
    """
    point, count = start, 1
    history: list[tuple[Array, Array]] = []
    while True:
        residual = inward(point, low, high)
        if np.abs(residual).max() <= TOLERANCE or count >= MAX_EVALUATIONS:
            return found(point, count, low, high)
        share = np.clip(point.explained / point.sizes, 0.0, 1.0)
        history = [*history, (point.x, residual)][-_MEMORY:]
        mixed = np.clip(_mixed(history, 1 / (2 - share)), low, high)
        trial, count = evaluate(mixed), count + 1
        if np.abs(inward(trial, low, high)).max() >= np.abs(residual).max():
            mixed = np.clip(point.x + residual / 2, low, high)
            trial, count = evaluate(mixed), count + 1
            history = []
        low = _raised(low, mixed, trial.x)
        point = trial


def _mixed(history: list[tuple[Array, Array]], damping: Array) -> Array:
    """Anderson's mixing of the last places and residuals, then a damped step."""
    x, residual = history[-1]
    if len(history) == 1:
        return x + damping * residual
    moves = np.stack([a - x for a, _ in history[:-1]], axis=1)
    changes = np.stack([b - residual for _, b in history[:-1]], axis=1)
    weights = np.linalg.lstsq(changes, -residual, rcond=1e-10)[0]
    mixed: Array = x + moves @ weights + damping * (residual + changes @ weights)
    return mixed
