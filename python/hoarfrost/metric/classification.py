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
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.metric.arrays import (
    as_array,
    as_scalar,
    backend,
    is_traced,
)
from hoarfrost.metric.checked import checked_labels, checked_probs, dtype_of_probs
from hoarfrost.metric.reliability_plot import check_plot, plot_reliability

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
    preds, targets = checked_labels(preds, targets)
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
    probs, targets = checked_probs(probs, targets, log=log)
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
        probs = xp.stack(
            [1 - probs.astype(dtype_of_probs(probs)), probs.astype(dtype_of_probs(probs))], axis=1
        )
    probs, targets = checked_probs(probs, targets)
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
    preds, targets = checked_labels(preds, targets)
    probs = as_array("probs", probs)
    dtype = dtype_of_probs(probs)
    probs, targets = checked_probs(probs, targets)
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


def _check_bins(n_bins: Any) -> int:
    n_bins = check_integer("n_bins", n_bins)
    if n_bins > _MOST_BINS:
        raise InvalidArgumentError(f"n_bins is {n_bins}; give at most {_MOST_BINS:,} bins")
    return n_bins
