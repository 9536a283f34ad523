"""A likelihood's curvature, compared with `jax.hessian` at random outputs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError

# Random outputs, and targets drawn at each of them.
_POINTS, _DRAWS = 8, 2048

# What rounding may do to a second derivative, relative to the largest entry.
_ROUNDING = {4: 1e-3, 8: 1e-9}

# Standard errors that a mean over draws may be away.
_STANDARD_ERRORS = 6.0


@dataclass(frozen=True)
class CurvatureCheck:
    """What the check found.

    Attributes
    ----------
    diagonal : bool
        Whether Lambda is diagonal.
    """

    diagonal: bool


def negative_hessians(likelihood: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """``-d^2 log p(y_n | f_n) / df^2`` of each point, shape ``(B, C, C)``."""

    def negative(one_output: jax.Array, one_target: jax.Array) -> jax.Array:
        return -likelihood.log_prob(one_output[None], one_target[None])[0]

    return jax.vmap(jax.hessian(negative))(outputs, targets)


@functools.lru_cache(maxsize=256)
def check_likelihood(likelihood: Any, defined: frozenset[str], version: int = 0) -> CurvatureCheck:
    """Compare `output_curvature` with the mean Hessian over targets that `sample` draws.

    Where the Hessian does not depend on the target this is exact but for rounding; elsewhere it is
    good to six standard errors of that mean.

    Parameters
    ----------
    likelihood : CustomLikelihood
        Hashable: an equal one is not checked again.
    defined : frozenset of str
        Which of "output_curvature" and "sample" its class brings itself.
    version : int
        Of what its methods read: it is checked again where that has changed.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError
        Where they differ: the outputs, the entry and both values are given.
    """
    name = type(likelihood).__name__
    num_outputs = likelihood.num_outputs or 2
    points = np.random.default_rng(0).normal(size=(_POINTS, num_outputs))
    outputs = jnp.asarray(np.repeat(points, _DRAWS, axis=0))
    targets = likelihood.sample(outputs, jax.random.PRNGKey(0))
    if targets.shape[:1] != outputs.shape[:1]:
        raise ShapeError(
            f"{name}.sample(outputs, key) gives shape {targets.shape} for outputs of shape "
            f"{outputs.shape}; the first axis must run over the points"
        )
    _check_log_prob(likelihood, name, outputs, targets)
    hessians = np.asarray(_hessian_program(likelihood, outputs, targets), dtype=np.float64)
    hessians = hessians.reshape(_POINTS, _DRAWS, num_outputs, num_outputs)
    if not np.isfinite(hessians).all():
        where = int(np.argwhere(~np.isfinite(hessians))[0][0])
        raise NonFiniteError(
            f"the second derivative of {name}.log_prob holds a NaN or an infinity at the outputs "
            f"{_shown(points[where])}; write it without operations that have none there"
        )
    mean = hessians.mean(axis=1)
    error = hessians.std(axis=1) / np.sqrt(_DRAWS)
    scale = np.abs(mean).max(axis=(1, 2), keepdims=True)
    slack = _ROUNDING[outputs.dtype.itemsize] * np.maximum(scale, scale.max() * 1e-3)
    varies = bool(np.any(error * np.sqrt(_DRAWS) > slack))
    if varies and "output_curvature" not in defined:
        spread = hessians.max(axis=1) - hessians.min(axis=1)
        where = int(np.argmax((spread / slack).max(axis=(1, 2))))
        raise InvalidArgumentError(
            f"the Hessian of {name}.log_prob depends on the target: at the outputs "
            f"{_shown(points[where])} it varies by {spread[where].max():.3g} over targets; define "
            "output_curvature(outputs), its mean over targets (the Fisher information), and "
            "sample(outputs, key), which draws such targets"
        )
    curvature = np.asarray(likelihood.output_curvature(jnp.asarray(points)), dtype=np.float64)
    if curvature.shape != mean.shape:
        raise ShapeError(
            f"{name}.output_curvature gives shape {curvature.shape} for outputs of shape "
            f"{points.shape}; it must be {mean.shape}"
        )
    difference = np.abs(curvature - mean)
    if not np.all(difference <= slack + _STANDARD_ERRORS * error):
        excess = np.nan_to_num(difference - _STANDARD_ERRORS * error, nan=np.inf)
        place = np.unravel_index(int(np.argmax(excess)), excess.shape)
        where, row, column = (int(index) for index in place)
        raise InvalidArgumentError(
            f"{name}.output_curvature is not the mean negative Hessian of log_prob: at the outputs "
            f"{_shown(points[where])} its entry ({row}, {column}) is "
            f"{curvature[where, row, column]:.6g}, and the Hessian's "
            f"{mean[where, row, column]:.6g}, a difference of "
            f"{difference[where, row, column]:.3g}{_hint(defined, varies)}"
        )
    least = np.linalg.eigvalsh((curvature + curvature.swapaxes(1, 2)) / 2)[:, 0]
    if np.any(least < -slack[:, 0, 0]):
        where = int(np.argmin(least))
        raise InvalidArgumentError(
            f"{name}.output_curvature is not positive semi-definite: at the outputs "
            f"{_shown(points[where])} it has the eigenvalue {least[where]:.3g}; a Laplace "
            "approximation needs the Fisher information, or another curvature that is never "
            "negative"
        )
    off = ~np.eye(num_outputs, dtype=bool)
    diagonal = not np.any(curvature[:, off]) and not np.any(mean[:, off])
    return CurvatureCheck(diagonal=diagonal)


def _check_log_prob(likelihood: Any, name: str, outputs: jax.Array, targets: jax.Array) -> None:
    """Raise unless `log_prob` gives one number a point, whatever points come with it."""
    some = slice(None, None, _DRAWS // 2)
    outputs, targets = outputs[some], targets[some]
    together = np.asarray(likelihood.log_prob(outputs, targets))
    if not jnp.issubdtype(together.dtype, np.floating):
        raise InvalidArgumentError(
            f"{name}.log_prob gives dtype {together.dtype}; a log-density is a floating-point "
            "number, which has a gradient"
        )
    if together.shape != (len(outputs),):
        raise ShapeError(
            f"{name}.log_prob gives shape {together.shape} for outputs of shape {outputs.shape} "
            f"and targets of shape {targets.shape}; it must be ({len(outputs)},), one number a "
            "point"
        )
    each = np.concatenate(
        [
            np.asarray(likelihood.log_prob(outputs[i : i + 1], targets[i : i + 1]))
            for i in range(len(outputs))
        ]
    )
    if not np.isfinite(each).all():
        where = int(np.argmin(np.isfinite(each)))
        raise NonFiniteError(
            f"{name}.log_prob is {each[where]} at the outputs {_shown(np.asarray(outputs[where]))} "
            f"for the target {np.asarray(targets[where])}; let sample(outputs, key) draw targets "
            "that the likelihood allows"
        )
    close = np.abs(together - each) <= 1e-4 * (1 + np.abs(each))
    if not close.all():
        where = int(np.argmin(close))
        raise InvalidArgumentError(
            f"{name}.log_prob mixes points: it gives {each[where]:.6g} for a point alone and "
            f"{together[where]:.6g} for it among others; check for targets that are broadcast "
            "against the outputs, and for sums over axis 0"
        )


@jax.jit
def _hessian_program(likelihood: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return negative_hessians(likelihood, outputs, targets)


def _hint(defined: frozenset[str], varies: bool) -> str:
    if varies and "sample" not in defined:
        return (
            "; the Hessian depends on the target, so define sample(outputs, key) to draw targets "
            "from the model rather than from a standard normal"
        )
    return ""


def _shown(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in point) + ")"
