"""One-dimensional signals of ten classes, drawn from a seed; no download.

They are made as MNIST-1D is, by the description and the constants of Greydanus and Kobak, "Scaling
down deep learning" (2020), https://arxiv.org/abs/2011.14439: a template of its class, padded,
scaled, moved, sheared and put into noise.
"""

from __future__ import annotations

import numpy as np

from hoarfrost.checks import check_count

NUM_CLASSES = 10
LENGTH = 40
# The heights at which the paper draws each digit, from the left to the right.
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
_TEMPLATE_LENGTH = _TEMPLATES.shape[1]
# A template's standard deviation.
_HEIGHT = 1 / 6
_PADDING = (36, 60)
# Points of a signal before it is brought to LENGTH.
_CANVAS = _TEMPLATE_LENGTH + _PADDING[1]
_SCALE = 0.4
_TRANSLATION = 48
_CORRELATED_NOISE = 0.25
# Standard deviation of the Gaussian that smooths this noise, in points.
_SMOOTHING = 2.0
_WHITE_NOISE = 0.02
_SHEAR = 0.75


def make_signals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw signals and their classes, in random order.

    Parameters
    ----------
    count : int
        N. Of each class there are N / 10, and one more of some where this is no whole number.
    seed : int
        Of everything drawn.

    Returns
    -------
    inputs : ndarray
        Shape ``(N, 40)``, float32, of mean 0 and standard deviation 1 over all its numbers.
    targets : ndarray
        Classes from 0 to 9, shape ``(N,)``, int32.

    Raises
    ------
    InvalidArgumentError
        If `count` is not a whole number of at least one, or `seed` none of at least zero.
    """
    seed = check_count("seed", seed, 0)
    count = check_count("count", count, 1)
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(count, dtype=np.int32) % NUM_CLASSES)
    canvas, inside = _stretched(targets, generator)
    canvas *= 1 + _centred(_SCALE, count, generator)
    shift = generator.integers(0, _TRANSLATION, (count, 1))
    moved = (np.arange(_CANVAS) - shift) % _CANVAS
    canvas, inside = (np.take_along_axis(part, moved, axis=1) for part in (canvas, inside))
    canvas = np.where(inside, canvas, _smooth_noise(canvas.shape, generator))
    canvas += _WHITE_NOISE * generator.standard_normal(canvas.shape)
    canvas -= _centred(_SHEAR, count, generator) * np.linspace(-0.5, 0.5, _CANVAS)
    signals = _resampled(canvas)
    signals = (signals - signals.mean()) / signals.std()
    return signals.astype(np.float32), targets


def templates() -> np.ndarray:
    """The ten shapes, ``(10, 12)``, of standard deviation 1/6, each from 0 back to 0."""
    shapes = _TEMPLATES / _TEMPLATES.std(axis=1, keepdims=True) * _HEIGHT
    return shapes - shapes[:, :1]


def _stretched(
    targets: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Templates with zeros behind them, brought to one length, and where the templates are."""
    padding = generator.integers(_PADDING[0], _PADDING[1] + 1, len(targets))
    last = _TEMPLATE_LENGTH + padding - 1
    places = np.linspace(0, 1, _CANVAS) * last[:, None]
    canvas = np.empty(places.shape)
    for label, shape in enumerate(templates()):
        mine = targets == label
        canvas[mine] = np.interp(places[mine], np.arange(_TEMPLATE_LENGTH), shape, right=0.0)
    return canvas, places < _TEMPLATE_LENGTH


def _centred(width: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """A number for each signal, even over an interval of this width about zero."""
    return width * (generator.random((count, 1)) - 0.5)


def _smooth_noise(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    noise = _CORRELATED_NOISE * generator.standard_normal(shape)
    return np.asarray(gaussian_filter1d(noise, _SMOOTHING, axis=1))


def _resampled(canvas: np.ndarray) -> np.ndarray:
    """Signals brought from their canvas to LENGTH points, linearly."""
    places = np.linspace(0, _CANVAS - 1, LENGTH)
    left = np.minimum(places.astype(int), _CANVAS - 2)
    part = places - left
    return canvas[:, left] * (1 - part) + canvas[:, left + 1] * part
