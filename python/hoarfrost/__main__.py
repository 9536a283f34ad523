"""``python -m hoarfrost``: the main job on data that need no download."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hoarfrost.examples.command import Command, Settings, run_command

_DESCRIPTION = """\
Shows what an exact Laplace posterior over the last layer of a small Flax network buys, on data that
need no download.

First a network that is too sure: one-dimensional signals with few labels, three seeds. A table
holds the network alone (MAP), with a temperature for which a fifth of the labels is held out, and
with its posterior, which needs none held out; below it what was won and lost, by how many standard
errors. Then scikit-learn's digits, where the network is calibrated already: which parameters are
trainable, the memory that the posterior will take, and MAP against Laplace on test digits, on
digits rotated by 30 degrees, and on images that are no digits. A picture shows both.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see `hoarfrost.examples.command.run_command`."""
    command = Command(
        name="python -m hoarfrost",
        about=_DESCRIPTION,
        picture="hoarfrost.png",
        epochs=100,
        quick_epochs=20,
        points="training data",
        packages=("sklearn", "matplotlib"),
        run=_run,
    )
    return run_command(command, arguments)


def _run(settings: Settings) -> None:
    # Here, as it loads JAX, which a wrong argument need not wait for.
    from hoarfrost.examples import main_job

    main_job.run(settings)


if __name__ == "__main__":
    sys.exit(main())
