"""``python -m hoarfrost``: the main job on data that needs no download."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from hoarfrost.errors import HoarfrostError

_PICTURE = "hoarfrost-digits.png"
_EPOCHS, _QUICK_EPOCHS = 200, 20
_DESCRIPTION = """\
Trains a small Flax network on scikit-learn's handwritten digits (no download), freezes all of it
but the last layer, and computes the exact Laplace posterior over that layer.

It prints which parameters are trainable, the memory that the posterior will take, the prior
precision that the validation digits choose, and then a table: the trained network alone (MAP)
against the network with its posterior (Laplace), on test digits, on test digits rotated by 30
degrees, and on images that are no digits. A picture shows the same.
"""
_EPILOG = """\
The table goes to standard output, progress bars to standard error. The same seed prints the same
table on the same machine. A picture that exists is replaced only by one that is complete.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0; 1 if something failed; 2 if an argument or the installation does not allow a start;
        130 if it was interrupted.
    """
    options = _parser().parse_args(arguments)
    for module in ("sklearn", "matplotlib"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return _say(
                f"{error.name or module} is not installed; "
                'pip install "hoarfrost[demo]" installs what this command needs',
                2,
            )
    from hoarfrost.examples.digits import Settings, run
    from hoarfrost.examples.output import check_destination

    folder = options.output
    picture = options.picture if folder is None else folder / _PICTURE
    try:
        check_destination(picture)
    except HoarfrostError as error:
        return _say(str(error), 2)
    epochs = options.epochs or (_QUICK_EPOCHS if options.quick else _EPOCHS)
    try:
        run(Settings(picture=picture, seed=options.seed, epochs=epochs))
    except KeyboardInterrupt:
        return _say("interrupted; no picture was written", 130)
    except (HoarfrostError, OSError) as error:
        return _say(str(error), 1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hoarfrost",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--picture",
        type=Path,
        default=Path(_PICTURE),
        metavar="FILE",
        help=f"the picture, a .png, .pdf or .svg file (default: {_PICTURE} in this folder)",
    )
    place.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"a folder that exists, for the picture under the name {_PICTURE}",
    )
    parser.add_argument(
        "--seed",
        type=_Whole(0),
        default=0,
        metavar="N",
        help="of the split of the data, the network and all that is drawn (default: 0)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs",
        type=_Whole(1),
        metavar="N",
        help=f"passes over the training digits (default: {_EPOCHS})",
    )
    length.add_argument(
        "--quick",
        action="store_true",
        help=f"only {_QUICK_EPOCHS} epochs: to see that it works, not for its numbers",
    )
    return parser


class _Whole:
    """An argparse type: a whole number of at least `least`."""

    def __init__(self, least: int) -> None:
        self.least = least

    def __call__(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = self.least - 1
        if number < self.least or number >= 2**31:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {self.least} to {2**31 - 1}"
            )
        return number


def _say(message: str, code: int) -> int:
    print(f"python -m hoarfrost: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
