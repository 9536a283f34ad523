"""The digits of scikit-learn, and inputs that are more and more unlike them; no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 8
ROTATION_DEGREES = 30
NUM_TRAIN, NUM_VALIDATION = 800, 400
# A square of this many pixels of a photograph becomes one image of 8 x 8.
_PATCH = 32
ABOUT_NOT_DIGITS = (
    f"Photo patches: squares of {_PATCH} x {_PATCH} pixels from scikit-learn's two sample "
    f"photographs, grey, averaged to {SIDE} x {SIDE} and stretched to 0..1. Shuffled pixels: test "
    "digits, the pixels of each in an order of its own. Uniform noise: independent numbers in 0..1."
)


@dataclass(frozen=True)
class Points:
    """Inputs under the name by which tables and pictures know them.

    Attributes
    ----------
    name : str
        What they are.
    inputs : ndarray
        Shape ``(N, 64)``, float32, from 0 to 1.
    targets : ndarray or None
        Classes, shape ``(N,)``; None where the inputs are no digits.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray | None


@dataclass(frozen=True)
class DigitsData:
    """The three parts of the data, and what the network has never seen the like of.

    Attributes
    ----------
    train, validation, test : Points
        Digits, no point in two of them.
    rotated : Points
        The test digits, rotated.
    not_digits : tuple of Points
        Inputs of several kinds that show no digit, as many of each kind as there are test digits.
    """

    train: Points
    validation: Points
    test: Points
    rotated: Points
    not_digits: tuple[Points, ...]


def load_digits_data(seed: int) -> DigitsData:
    """Split scikit-learn's digits and make the other inputs.

    Parameters
    ----------
    seed : int
        Of the split and of everything drawn.
    """
    from sklearn.datasets import load_digits, load_sample_images

    generator = np.random.default_rng(seed)
    images, targets = load_digits(return_X_y=True)
    images, targets = (images / 16).astype(np.float32), targets.astype(np.int32)
    order = generator.permutation(len(images))
    train, validation, test = (
        Points(name, images[part], targets[part])
        for name, part in zip(
            ("training digits", "validation digits", "test digits"),
            np.split(order, [NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION]),
            strict=True,
        )
    )
    count = len(test.inputs)
    shuffled = generator.permuted(test.inputs, axis=1)
    noise = generator.random((count, SIDE * SIDE), dtype=np.float32)
    patches = _photo_patches(load_sample_images().images, count, generator)
    return DigitsData(
        train=train,
        validation=validation,
        test=test,
        rotated=Points("rotated digits", _rotated(test.inputs), test.targets),
        not_digits=(
            Points("photo patches", patches, None),
            Points("shuffled pixels", shuffled, None),
            Points("uniform noise", noise, None),
        ),
    )


def _rotated(inputs: np.ndarray) -> np.ndarray:
    """The images rotated about their centre, bilinearly, black where nothing was."""
    from scipy.ndimage import rotate

    images = inputs.reshape(-1, SIDE, SIDE)
    turned = rotate(images, ROTATION_DEGREES, axes=(1, 2), reshape=False, order=1)
    return np.asarray(turned, np.float32).reshape(inputs.shape)


def _photo_patches(photos: Sequence[Any], count: int, generator: np.random.Generator) -> np.ndarray:
    """Grey squares cut from photographs, averaged to 8 x 8 and stretched to go from 0 to 1."""
    grey = [np.asarray(photo, np.float32).mean(axis=2) for photo in photos]
    block = _PATCH // SIDE
    patches = np.empty((count, SIDE * SIDE), np.float32)
    for index in range(count):
        photo = grey[index % len(grey)]
        top, left = (int(generator.integers(0, size - _PATCH + 1)) for size in photo.shape)
        square = photo[top : top + _PATCH, left : left + _PATCH]
        small = square.reshape(SIDE, block, SIDE, block).mean(axis=(1, 3))
        # A patch of one even colour stays all black.
        spread = max(float(small.max() - small.min()), 1e-6)
        patches[index] = ((small - small.min()) / spread).ravel()
    return patches
