"""``python -m hoarfrost``: the main job on data that needs no download."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hoarfrost.examples.command import Command, Settings, run_command

_DESCRIPTION = """\
Trains a small Flax network on scikit-learn's handwritten digits (no download), freezes all of it
but the last layer, and computes the exact Laplace posterior over that layer.

It prints which parameters are trainable, the memory that the posterior will take, the prior
precision that the validation digits choose, and then a table: the trained network alone (MAP)
against the network with its posterior (Laplace), on test digits, on test digits rotated by 30
degrees, and on images that are no digits. A picture shows the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see `hoarfrost.examples.command.run_command`."""
    command = Command(
        name="python -m hoarfrost",
        about=_DESCRIPTION,
        picture="hoarfrost-digits.png",
        epochs=200,
        quick_epochs=20,
        points="training digits",
        packages=("sklearn", "matplotlib"),
        run=_run,
    )
    return run_command(command, arguments)


def _run(settings: Settings) -> None:
    # Here, as it loads JAX, which a wrong argument need not wait for.
    from hoarfrost.examples import digits

    digits.run(settings)


if __name__ == "__main__":
    sys.exit(main())
