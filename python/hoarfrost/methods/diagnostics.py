"""How good samples are: how many independent ones they are worth, and how far from a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_number, is_number, plain, real_numbers, shown
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.types import Array, Tree

# Numbers of a block of parameters whose transforms are held at once.
_AT_ONCE = 2**22


def effective_sample_size(samples: Any, filter_threshold: float | None = 0.0) -> Tree:
    """How many independent samples have the same variance of the mean, for each parameter.

    ``S / (1 + 2 sum_k (1 - k / S) r_k)`` with the sample autocorrelations ``r_k``, from the first
    one below `filter_threshold` on left out (Geyer's initial sequence, by that rule).

    Parameters
    ----------
    samples : sequence of trees, or tree of arrays
        S samples of one chain in their order, or a tree with a leading axis S.
    filter_threshold : float or None
        None sums all autocorrelations.

    Returns
    -------
    tree
        Like one sample, float64. A parameter that never moves has an effective size of 1.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError
        If there are fewer than two samples, they are not alike, or hold no finite numbers.
    """
    stacked = _stacked("samples", samples)
    threshold = plain(filter_threshold)
    if threshold is not None and not is_number(threshold):
        raise InvalidArgumentError(
            f"filter_threshold is {shown(filter_threshold)}; give a number, or None"
        )
    return jax.tree.map(lambda leaf: _effective(leaf, threshold), stacked)


def kernel_stein_discrepancy_imq(
    samples: Any, grads: Any, c: float = 1.0, beta: float = -0.5
) -> Array:
    """The kernelised Stein discrepancy of samples from a density, by an inverse multiquadric.

    The root of the mean over all pairs of the Stein kernel of ``(c^2 + |x - y|^2)^beta``; it goes
    to 0 exactly where samples go to the density.

    Parameters
    ----------
    samples, grads : sequence of trees, or tree of arrays
        S samples, and the gradients of the log-density at them; or trees with a leading axis S.
    c : float
        Above 0.
    beta : float
        Between -1 and 0, both excluded.

    Returns
    -------
    ndarray
        Shape ``()``, float64.

    Raises
    ------
    InvalidArgumentError, ShapeError, NonFiniteError
        If an argument is out of range; if samples and gradients are not alike, or not finite.

    References
    ----------
    Gorham and Mackey (2017), Measuring sample quality with kernels.
    """
    width = check_number("c", c, positive=True)
    power = plain(beta)
    if not is_number(power) or not -1 < power < 0:
        raise InvalidArgumentError(
            f"beta is {shown(beta)}; give a number between -1 and 0, both excluded"
        )
    x, score = _flat("samples", samples), _flat("grads", grads)
    if x.shape != score.shape:
        raise ShapeError(
            f"samples have shape {x.shape} as vectors, and grads {score.shape}; give a gradient "
            "for each sample"
        )
    x = x - x.mean(axis=0)
    size, dimension = x.shape
    norms, along = np.sum(x * x, axis=1), np.sum(score * x, axis=1)
    total = 0.0
    rows = max(1, _AT_ONCE // size)
    for start in range(0, size, rows):
        part = slice(start, start + rows)
        distance = np.maximum(norms[part, None] + norms - 2 * x[part] @ x.T, 0)
        base = width**2 + distance
        slope = -2 * power * base ** (power - 1)
        apart = along[part, None] + along - score[part] @ x.T - x[part] @ score.T
        trace = dimension * slope - 4 * power * (power - 1) * base ** (power - 2) * distance
        total += float(np.sum(trace + slope * apart + base**power * (score[part] @ score.T)))
    return np.sqrt(np.maximum(np.asarray(total), 0)) / size


def _effective(leaf: Array, threshold: float | None) -> Array:
    size = len(leaf)
    flat = leaf.reshape(size, -1)
    found = np.empty(flat.shape[1])
    width = max(1, _AT_ONCE // (2 * size))
    weights = 1 - np.arange(1, size) / size
    for start in range(0, flat.shape[1], width):
        part = flat[:, start : start + width]
        centred = part - part.mean(axis=0)
        spectrum = np.fft.rfft(centred, 2 * size, axis=0)
        covariance = np.fft.irfft(np.abs(spectrum) ** 2, 2 * size, axis=0)[:size]
        lags = np.arange(size, 0, -1)[:, None]
        variance = covariance[0] / size
        # Rounding of a mean is no movement.
        moves = variance > (np.finfo(np.float64).eps * np.abs(part).max(axis=0)) ** 2
        correlation = covariance / lags / np.where(moves, variance, 1)
        later = correlation[1:]
        if threshold is not None:
            later = np.where(np.cumsum(later < threshold, axis=0) > 0, 0, later)
        sums = np.sum(weights[:, None] * later, axis=0)
        found[start : start + width] = np.where(moves, size / np.maximum(1 + 2 * sums, 1 / size), 1)
    return found.reshape(leaf.shape[1:])


def _stacked(name: str, samples: Any) -> Tree:
    """A tree of float64 arrays with a leading axis of samples."""
    if isinstance(samples, Sequence) and not isinstance(samples, str):
        trees = list(samples)
        if len(trees) < 2:
            raise InvalidArgumentError(f"{name} holds {len(trees)} samples; give at least two")
        shapes = [jax.tree.map(np.shape, tree) for tree in trees]
        for place, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise ShapeError(
                    f"{name}[{place}] has leaves of shape {shown(shape)}, and {name}[0] "
                    f"{shown(shapes[0])}; all samples must be alike"
                )
        samples = jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *trees)
    leaves, structure = jax.tree.flatten(samples)
    if not leaves:
        raise InvalidArgumentError(f"{name} holds no arrays; give trees of arrays")
    wide = [_numbers(name, leaf) for leaf in leaves]
    sizes = {leaf.shape[:1] for leaf in wide}
    if len(sizes) != 1 or min(sizes) < (2,):
        raise ShapeError(
            f"{name} has leaves of shapes {[leaf.shape for leaf in wide]}; all need a leading axis "
            "of the same length, of at least two samples"
        )
    return jax.tree.unflatten(structure, wide)


def _numbers(name: str, leaf: Any) -> Array:
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiuV" and array.dtype.name != "bfloat16":
        raise InvalidArgumentError(f"{name} holds {shown(leaf)}; give arrays of real numbers")
    wide = array.astype(np.float64)
    if real_numbers(wide) is None:
        raise NonFiniteError(f"{name} holds a NaN or an infinity; leave that sample out")
    return wide


def _flat(name: str, samples: Any) -> Array:
    leaves = jax.tree.leaves(_stacked(name, samples))
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
