"""Scores of predicted classes: accuracy, likelihood, calibration.

Every function checks its arguments and then runs a program that is compiled once per shape. Each
returns a JAX scalar and may be called inside ``jax.jit``, where only shapes can be checked.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_integer
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.metric.arrays import arrays, check_not_empty, wide

# What rounding may add to a probability in half precision.
_ROUNDING = 1e-2


class ReliabilityDiagram(NamedTuple):
    """Confidence against accuracy, bin by bin.

    Attributes
    ----------
    edges : (n_bins + 1,) array
        Edges of the bins of confidence, from 0 to 1; bin i is ``edges[i] < confidence <=
        edges[i + 1]``, and the first one holds 0 too.
    confidence : (n_bins,) array
        Mean confidence of the points in each bin, NaN where there are none.
    accuracy : (n_bins,) array
        Fraction of the points in each bin that are predicted rightly, NaN where there are none.
    counts : (n_bins,) array of int
        Number of points in each bin.
    """

    edges: jax.Array
    confidence: jax.Array
    accuracy: jax.Array
    counts: jax.Array


def accuracy(preds: Any, targets: Any) -> jax.Array:
    """Fraction of points whose predicted class is the target.

    Parameters
    ----------
    preds : (N,) array
        Predicted classes.
    targets : (N,) array
        True classes.

    Raises
    ------
    ShapeError
        If either is not one-dimensional, or they differ in length.
    """
    preds, targets = arrays(preds, targets)
    _check_labels(preds, targets)
    return _accuracy(preds, targets)


def negative_log_likelihood(probs: Any, targets: Any, *, log: bool = False) -> jax.Array:
    """Mean of minus the log-probability of the target, in nats.

    Parameters
    ----------
    probs : (N, C) array
        Probabilities of the classes; log-probabilities where `log` is true, which lose nothing
        where a probability is too small for a float. A target with probability 0 makes it infinite.
    targets : (N,) array of int
        True classes, 0 to C - 1.
    log : bool
        Whether `probs` are log-probabilities.

    Raises
    ------
    ShapeError, InvalidArgumentError
        If shapes do not fit, a label is out of range, or `probs` are not what `log` says.
    """
    probs, targets = arrays(probs, targets)
    _check_probs(probs, targets, log=log)
    return _negative_log_likelihood(probs, targets, log=bool(log))


def brier_score(probs: Any, targets: Any) -> jax.Array:
    """Mean squared distance between the probabilities and the one-hot target, from 0 to 2.

    The sum over all classes, as Brier (1950) defines it: for two classes, twice the score that
    looks at one of them.

    Parameters
    ----------
    probs : (N, C) array
        Probabilities of the classes.
    targets : (N,) array of int
        True classes, 0 to C - 1.

    Raises
    ------
    ShapeError, InvalidArgumentError
        If shapes do not fit, a label is out of range, or `probs` are no probabilities.
    """
    probs, targets = arrays(probs, targets)
    _check_probs(probs, targets)
    return _brier_score(probs, targets)


def reliability_diagram(
    preds: Any, probs: Any, targets: Any, *, n_bins: int = 15
) -> ReliabilityDiagram:
    """What a reliability diagram shows: confidence and accuracy in bins of equal width on [0, 1].

    Parameters
    ----------
    preds : (N,) array
        Predicted classes.
    probs : (N, C) array
        Probabilities of the classes; the largest of each row is the confidence.
    targets : (N,) array of int
        True classes, 0 to C - 1.
    n_bins : int
        Number of bins.

    Raises
    ------
    ShapeError, InvalidArgumentError
        If shapes do not fit, a label is out of range, `probs` are no probabilities, or `n_bins` is
        not a positive integer.
    """
    preds, probs, targets = arrays(preds, probs, targets)
    _check_calibration(preds, probs, targets, n_bins)
    return ReliabilityDiagram(*_reliability(preds, probs, targets, n_bins=int(n_bins)))


def expected_calibration_error(
    preds: Any, probs: Any, targets: Any, *, n_bins: int = 15
) -> jax.Array:
    """Mean gap between confidence and accuracy over the bins, weighted by their points (ECE).

    ``sum_b (n_b / N) |accuracy_b - confidence_b|`` with the bins of `reliability_diagram`, as in
    Naeini et al. (2015) and Guo et al. (2017). Fortuna's function of this name gives another
    number: it squares the gaps, over ten bins from 1/C to 1. The arguments are those of
    `reliability_diagram`.
    """
    preds, probs, targets = arrays(preds, probs, targets)
    _check_calibration(preds, probs, targets, n_bins)
    return _calibration_errors(preds, probs, targets, n_bins=int(n_bins))[0]


def maximum_calibration_error(
    preds: Any, probs: Any, targets: Any, *, n_bins: int = 15
) -> jax.Array:
    """Largest gap between confidence and accuracy over the bins that hold a point (MCE).

    ``max_b |accuracy_b - confidence_b|`` as in Naeini et al. (2015). The arguments are those of
    `reliability_diagram`.
    """
    preds, probs, targets = arrays(preds, probs, targets)
    _check_calibration(preds, probs, targets, n_bins)
    return _calibration_errors(preds, probs, targets, n_bins=int(n_bins))[1]


def nll(probs: Any, targets: Any, *, log: bool = False) -> jax.Array:
    """Short name of `negative_log_likelihood`."""
    return negative_log_likelihood(probs, targets, log=log)


def ece(preds: Any, probs: Any, targets: Any, *, n_bins: int = 15) -> jax.Array:
    """Short name of `expected_calibration_error`."""
    return expected_calibration_error(preds, probs, targets, n_bins=n_bins)


def mce(preds: Any, probs: Any, targets: Any, *, n_bins: int = 15) -> jax.Array:
    """Short name of `maximum_calibration_error`."""
    return maximum_calibration_error(preds, probs, targets, n_bins=n_bins)


# --- compiled programs ---------------------------------------------------------------------------


@jax.jit
def _accuracy(preds: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.mean(preds == targets)


@partial(jax.jit, static_argnames="log")
def _negative_log_likelihood(probs: jax.Array, targets: jax.Array, *, log: bool) -> jax.Array:
    target = jnp.take_along_axis(wide(probs), targets.astype(int)[:, None], axis=1)
    return -jnp.mean(target if log else jnp.log(target))


@jax.jit
def _brier_score(probs: jax.Array, targets: jax.Array) -> jax.Array:
    probs = wide(probs)
    one_hot = jax.nn.one_hot(targets.astype(int), probs.shape[1], dtype=probs.dtype)
    return jnp.mean(jnp.sum((probs - one_hot) ** 2, axis=1))


@partial(jax.jit, static_argnames="n_bins")
def _reliability(
    preds: jax.Array, probs: jax.Array, targets: jax.Array, *, n_bins: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    confidence = jnp.max(wide(probs), axis=1)
    edges = jnp.asarray(np.linspace(0.0, 1.0, n_bins + 1), confidence.dtype)
    bins = jnp.searchsorted(edges[1:-1], confidence, side="left")
    add = partial(jax.ops.segment_sum, segment_ids=bins, num_segments=n_bins)
    count = add(jnp.ones_like(bins))
    right = add((preds == targets).astype(bins.dtype))
    # 0 / 0 in an empty bin is the NaN that is promised.
    return edges, add(confidence) / count, right.astype(confidence.dtype) / count, count


@partial(jax.jit, static_argnames="n_bins")
def _calibration_errors(
    preds: jax.Array, probs: jax.Array, targets: jax.Array, *, n_bins: int
) -> tuple[jax.Array, jax.Array]:
    _, confidence, right, count = _reliability(preds, probs, targets, n_bins=n_bins)
    gap = jnp.where(count > 0, jnp.abs(right - confidence), 0.0)
    return jnp.sum(count * gap) / jnp.sum(count), jnp.max(gap)


# --- checks --------------------------------------------------------------------------------------


def _check_labels(preds: Any, targets: Any) -> None:
    for name, value in (("preds", preds), ("targets", targets)):
        if len(np.shape(value)) != 1:
            raise ShapeError(
                f"{name} must be a one-dimensional array of classes, but has shape "
                f"{np.shape(value)}; of probabilities, take argmax(-1) first"
            )
    if np.shape(preds) != np.shape(targets):
        raise ShapeError(
            "preds and targets must have the same length, but have "
            f"{np.shape(preds)} and {np.shape(targets)}"
        )
    check_not_empty(np.shape(targets))


def _check_probs(probs: Any, targets: Any, log: bool = False) -> None:
    shape = np.shape(probs)
    if len(shape) != 2 or np.shape(targets) != shape[:1]:
        raise ShapeError(
            "probs must have shape (N, C), a row of class probabilities for each point, and "
            f"targets shape (N,), but they have {shape} and {np.shape(targets)}"
        )
    check_not_empty(shape)
    if isinstance(targets, jax.core.Tracer) or isinstance(probs, jax.core.Tracer):
        return  # only shapes are known while tracing
    labels = np.asarray(targets)
    wrong = ~((labels >= 0) & (labels < shape[1]) & (labels == np.floor(labels)))
    if wrong.any():
        raise InvalidArgumentError(
            f"targets must be classes from 0 to {shape[1] - 1}, the columns of probs, but "
            f"targets[{int(wrong.argmax())}] is {labels[wrong.argmax()]}"
        )
    values = np.asarray(probs)
    low, high = float(values.min()), float(values.max())
    if log and not high <= _ROUNDING:
        raise InvalidArgumentError(
            f"with log=True, probs must be log-probabilities, none above 0, but the largest is "
            f"{high}; give logits through jax.nn.log_softmax, probabilities with log=False"
        )
    if not log and not (low >= -_ROUNDING and high <= 1.0 + _ROUNDING):
        raise InvalidArgumentError(
            f"probs must be probabilities from 0 to 1, but go from {low} to {high}; give logits "
            "through jax.nn.softmax"
        )


def _check_calibration(preds: Any, probs: Any, targets: Any, n_bins: Any) -> None:
    check_integer("n_bins", n_bins)
    _check_labels(preds, targets)
    _check_probs(probs, targets)
