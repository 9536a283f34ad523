"""Scores of predicted classes: accuracy, likelihood, calibration.

Every function checks its arguments, computes in float64 and returns a JAX scalar. Each may be
called inside ``jax.jit`` too, where only shapes and dtypes can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_integer, check_switch
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.metric.arrays import (
    as_array,
    as_classes,
    as_scalar,
    backend,
    check_not_empty,
    first_true,
    is_traced,
    wide_in_program,
)
from hoarfrost.metric.reliability_plot import check_plot, plot_reliability

# What rounding may add to a probability and to a row of them: in half precision, and in others
# (three decimals, and a softmax of large logits in float32).
_ROUNDING_IN_HALF, _ROUNDING = 1e-2, 1e-3

# More bins than that hold no two points of any data.
_MOST_BINS = 10**6


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
    InvalidArgumentError, NonFiniteError
        If a class is no whole number, or an entry is masked.
    """
    preds, targets = _labels(preds, targets)
    return as_scalar("the accuracy", backend(preds, targets).mean(preds == targets))


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
    log = check_switch("log", log)
    probs, targets = _probs(probs, targets, log=log)
    xp = backend(probs, targets)
    with np.errstate(divide="ignore"):
        target = xp.take_along_axis(probs, targets[:, None], axis=1)
        score = -xp.mean(target if log else xp.log(target))
    return as_scalar("the negative log-likelihood", score)


def brier_score(probs: Any, targets: Any) -> jax.Array:
    """Mean squared distance between the probabilities and the one-hot target, from 0 to 2.

    The sum over all classes, as Brier (1950) defines it: for two classes, twice the score that
    looks at one of them. Probabilities of shape ``(N,)``, of a yes, give that other score, from 0
    to 1.

    Parameters
    ----------
    probs : (N, C) or (N,) array
        Probabilities of the classes, or of class 1 of two.
    targets : (N,) array of int, or TargetsLoader
        True classes, 0 to C - 1.

    Raises
    ------
    ShapeError, InvalidArgumentError
        If shapes do not fit, a label is out of range, or `probs` are no probabilities.
    """
    probs = as_array("probs", probs)
    single = np.ndim(probs) == 1
    if single:
        xp = backend(probs)
        probs = xp.stack([1 - probs.astype(_wide(probs)), probs.astype(_wide(probs))], axis=1)
    probs, targets = _probs(probs, targets)
    xp = backend(probs, targets)
    one_hot = targets[:, None] == xp.arange(probs.shape[1])
    squares = xp.sum((probs - one_hot) ** 2, axis=1)
    return as_scalar("the Brier score", xp.mean(squares) / (2 if single else 1))


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
    n_bins = _check_bins(n_bins)
    return ReliabilityDiagram(*map(jnp.asarray, _reliability(preds, probs, targets, n_bins)))


def expected_calibration_error(
    preds: Any,
    probs: Any,
    targets: Any,
    plot: bool = False,
    plot_options: Mapping[str, Any] | None = None,
    *,
    n_bins: int = 15,
) -> jax.Array:
    """Mean gap between confidence and accuracy over the bins, weighted by their points (ECE).

    ``sum_b (n_b / N) |accuracy_b - confidence_b|`` with the bins of `reliability_diagram`, as in
    Naeini et al. (2015) and Guo et al. (2017). Fortuna's function of this name gives another
    number: its ten edges go from 1 / N to 1, with N the number of points (and its releases before
    2023 square the gaps). The arguments are those of `reliability_diagram`, and two more.

    Parameters
    ----------
    plot : bool
        Whether to draw the gap of each bin over its confidence, with matplotlib.
    plot_options : dict, optional
        Of that picture: "ax", "labels", "figsize", "legend_loc", "fontsize", "title", "ylim",
        "linewidth", "linestyle", "alpha", "show", and "fname" with what else matplotlib's savefig
        takes.

    Raises
    ------
    ShapeError, InvalidArgumentError, NonFiniteError
        As `reliability_diagram`; or if there are options without `plot`, an option is unknown, or
        matplotlib is not there.
    """
    return _calibration_errors(preds, probs, targets, n_bins, plot, plot_options)[0]


def maximum_calibration_error(
    preds: Any,
    probs: Any,
    targets: Any,
    plot: bool = False,
    plot_options: Mapping[str, Any] | None = None,
    *,
    n_bins: int = 15,
) -> jax.Array:
    """Largest gap between confidence and accuracy over the bins that hold a point (MCE).

    ``max_b |accuracy_b - confidence_b|`` as in Naeini et al. (2015). The arguments are those of
    `expected_calibration_error`.
    """
    return _calibration_errors(preds, probs, targets, n_bins, plot, plot_options)[1]


def nll(probs: Any, targets: Any, *, log: bool = False) -> jax.Array:
    """Short name of `negative_log_likelihood`."""
    return negative_log_likelihood(probs, targets, log=log)


def ece(
    preds: Any,
    probs: Any,
    targets: Any,
    plot: bool = False,
    plot_options: Mapping[str, Any] | None = None,
    *,
    n_bins: int = 15,
) -> jax.Array:
    """Short name of `expected_calibration_error`."""
    return expected_calibration_error(preds, probs, targets, plot, plot_options, n_bins=n_bins)


def mce(
    preds: Any,
    probs: Any,
    targets: Any,
    plot: bool = False,
    plot_options: Mapping[str, Any] | None = None,
    *,
    n_bins: int = 15,
) -> jax.Array:
    """Short name of `maximum_calibration_error`."""
    return maximum_calibration_error(preds, probs, targets, plot, plot_options, n_bins=n_bins)


# --- bins ----------------------------------------------------------------------------------------


def _reliability(preds: Any, probs: Any, targets: Any, n_bins: int) -> tuple[Any, Any, Any, Any]:
    """Edges, mean confidence, accuracy and counts of the bins."""
    preds, targets = _labels(preds, targets)
    probs = as_array("probs", probs)
    dtype = _wide(probs)
    probs, targets = _probs(probs, targets)
    xp = backend(preds, probs, targets)
    confidence = xp.max(probs, axis=1)
    # In the dtype of the probabilities: 0.6 in float32 is not above an edge of 0.6.
    edges = xp.asarray(np.linspace(0.0, 1.0, n_bins + 1).astype(dtype), confidence.dtype)
    bins = xp.searchsorted(edges[1:-1], confidence, side="left")
    length = {"minlength": n_bins} if xp is np else {"length": n_bins}

    def total(values: Any) -> Any:
        return xp.bincount(bins, weights=values, **length)

    count = total(xp.ones_like(confidence))
    with np.errstate(invalid="ignore"):
        # 0 / 0 in an empty bin is the NaN that is promised.
        mean, right = total(confidence) / count, total(1.0 * (preds == targets)) / count
    return edges, mean, right, count.astype(int)


def _calibration_errors(
    preds: Any, probs: Any, targets: Any, n_bins: Any, plot: Any, plot_options: Any
) -> tuple[jax.Array, jax.Array]:
    n_bins, plot = _check_bins(n_bins), check_switch("plot", plot)
    check_plot(plot, plot_options, is_traced(preds, probs, targets))
    _, confidence, right, count = _reliability(preds, probs, targets, n_bins)
    if plot:
        plot_reliability(confidence, right, plot_options)
    xp = backend(confidence)
    gap = xp.where(count > 0, xp.abs(right - confidence), 0.0)
    expected, largest = xp.sum(count * gap) / xp.sum(count), xp.max(gap)
    return as_scalar("the calibration error", expected), as_scalar("the calibration error", largest)


# --- checks --------------------------------------------------------------------------------------


def _check_bins(n_bins: Any) -> int:
    n_bins = check_integer("n_bins", n_bins)
    if n_bins > _MOST_BINS:
        raise InvalidArgumentError(f"n_bins is {n_bins}; give at most {_MOST_BINS:,} bins")
    return n_bins


def _labels(preds: Any, targets: Any) -> tuple[Any, Any]:
    """Predicted and true classes, checked; of one backend."""
    preds, targets = as_array("preds", preds), as_array("targets", targets)
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
    preds, targets = as_classes("preds", preds), as_classes("targets", targets)
    if is_traced(preds, targets):
        preds, targets = _in_program("preds", preds), _in_program("targets", targets)
    return preds, targets


def _in_program(name: str, labels: Any) -> Any:
    """Known labels beside traced ones, as JAX has them."""
    if isinstance(labels, jax.core.Tracer):
        return labels
    dtype = jax.dtypes.canonicalize_dtype(labels.dtype)
    if labels.dtype != np.bool_ and (labels.astype(dtype) != labels).any():
        raise InvalidArgumentError(
            f"{name} holds {labels[labels.astype(dtype) != labels][0]}, which is no {dtype}; call "
            "the score outside of jax.jit, or number the classes from 0"
        )
    return jnp.asarray(labels)


def _wide(probs: Any) -> Any:
    """The dtype of probabilities, half precision widened."""
    if not jnp.issubdtype(probs.dtype, np.floating):
        return np.float64
    return probs.dtype if probs.dtype.itemsize > 2 else np.float32


def _probs(probs: Any, targets: Any, log: bool = False) -> tuple[Any, Any]:
    """Probabilities in float64 and labels of their columns, checked; of one backend."""
    probs, targets = as_array("probs", probs), as_array("targets", targets)
    shape = np.shape(probs)
    if len(shape) != 2 or np.shape(targets) != shape[:1]:
        raise ShapeError(
            "probs must have shape (N, C), a row of class probabilities for each point, and "
            f"targets shape (N,), but they have {shape} and {np.shape(targets)}"
        )
    check_not_empty(shape)
    if not is_traced(targets):
        labels = targets
        wrong = ~((labels >= 0) & (labels < shape[1]) & (labels == np.floor(labels)))
        if wrong.any():
            raise InvalidArgumentError(
                f"targets must be classes from 0 to {shape[1] - 1}, the columns of probs, but "
                f"targets[{int(wrong.argmax())}] is {labels[wrong.argmax()]}"
            )
        targets = labels.astype(np.int64)
    if not is_traced(probs):
        probs = _sound_probs(probs, log)
    if is_traced(probs, targets):
        # In a program that is not in float64 there are no labels of 64 bits.
        return wide_in_program(probs), jnp.asarray(targets).astype(int)
    return probs, targets


def _sound_probs(probs: np.ndarray, log: bool) -> np.ndarray:
    """Probabilities in float64; what rounding took below 0 is 0."""
    half = jnp.issubdtype(probs.dtype, np.floating) and probs.dtype.itemsize == 2
    rounding = _ROUNDING_IN_HALF if half else _ROUNDING
    values: np.ndarray = probs.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if log and not high <= rounding:
        raise InvalidArgumentError(
            f"with log=True, probs must be log-probabilities, none above 0, but the largest is "
            f"{high}; give logits through jax.nn.log_softmax, probabilities with log=False"
        )
    if not log and not (low >= -rounding and high <= 1.0 + rounding):
        raise InvalidArgumentError(
            f"probs must be probabilities from 0 to 1, but go from {low} to {high}; give logits "
            "through jax.nn.softmax"
        )
    sums = (np.exp(values) if log else values).sum(axis=1)
    wrong = ~(np.abs(sums - 1.0) <= rounding)
    if wrong.any():
        (row,) = first_true(wrong)
        raise InvalidArgumentError(
            f"every row of probs must add up to 1, but {'exp of ' if log else ''}row {row} adds up "
            f"to {sums[row]:.6g}; "
            + (
                "take jax.nn.log_softmax of the logits"
                if log
                else "give all classes, as jax.nn.softmax of the logits does, or divide by the sum"
            )
        )
    return values if log else np.maximum(values, 0.0)
