"""``python -m hoarfrost.examples.resnet``: a ResNet18 with BatchNorm, its last layer Bayesian."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from flax import nnx

from hoarfrost.examples.bayesian_head import bayesian_head, print_network
from hoarfrost.examples.command import Command, Settings, run_command
from hoarfrost.examples.digits_data import (
    ABOUT_NOT_DIGITS,
    NUM_TRAIN,
    NUM_VALIDATION,
    ROTATION_DEGREES,
    SIDE,
    Points,
    load_digits_data,
)
from hoarfrost.examples.scoreboard import Answers
from hoarfrost.examples.scoreboard_report import report
from hoarfrost.model.nnx import ResNet18

_TIMES = 2
_ABOUT = f"""\
Trains a ResNet18 with BatchNorm (in NNX, 16 filters in its first stage) on {NUM_TRAIN} of
scikit-learn's handwritten digits (no download), and makes its last layer Bayesian: the exact
Laplace posterior, its prior chosen by the evidence. It takes a minute or two.

It prints a table of the trained network alone (MAP), with its temperature scaled, and with the
Bayesian head: on test digits, on the same rotated by {ROTATION_DEGREES} degrees, and on images that
are no digits; below it, what was won and what was lost. A picture shows the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see `hoarfrost.examples.command.run_command`."""
    command = Command(
        name="python -m hoarfrost.examples.resnet",
        about=_ABOUT,
        picture="hoarfrost-resnet.png",
        epochs=30,
        quick_epochs=2,
        points="training digits",
        packages=("sklearn", "matplotlib"),
        run=run,
    )
    return run_command(command, arguments)


def run(settings: Settings) -> None:
    """Do the job, print what comes of it and write the picture."""
    data = load_digits_data(settings.seed)
    train, validation = (
        (_enlarged(part.inputs), part.targets) for part in (data.train, data.validation)
    )
    network = ResNet18(
        input_shape=train[0].shape[1:], output_dim=10, num_filters=16, rngs=nnx.Rngs(settings.seed)
    )
    print_network("ResNet18 with BatchNorm", network)
    print(f"Data: {NUM_TRAIN} training digits, {NUM_VALIDATION} validation digits\n")
    predict = bayesian_head(
        network,
        train,
        validation,
        epochs=settings.epochs,
        learning_rate=3e-3,
        seed=settings.seed,
    )

    def answers(points: Points) -> Answers:
        return Answers(points.name, predict(_enlarged(points.inputs)), points.targets)

    report(
        answers(data.test),
        [answers(data.rotated)],
        [answers(points) for points in data.not_digits],
        "digit",
        f"Rotated digits: the test digits turned by {ROTATION_DEGREES} degrees. {ABOUT_NOT_DIGITS}",
        settings,
    )


def _enlarged(inputs: np.ndarray) -> np.ndarray:
    """Images ``(N, 64)`` as ``(N, 16, 16, 1)``, bilinearly."""
    from scipy.ndimage import zoom

    images = zoom(inputs.reshape(-1, SIDE, SIDE), (1, _TIMES, _TIMES), order=1)
    return np.asarray(images[..., None], np.float32)


if __name__ == "__main__":
    sys.exit(main())
