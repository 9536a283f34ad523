"""What the commands of examples share: options, checks before the work, exit codes."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hoarfrost.errors import HoarfrostError
from hoarfrost.examples.output import check_destination

_EPILOG = """\
The table goes to standard output, progress bars to standard error. The same seed prints the same
table on the same machine. A picture that exists is replaced only by one that is complete.
"""


@dataclass(frozen=True)
class Settings:
    """How an example is run.

    Attributes
    ----------
    picture : Path
        Where the picture goes; its folder can be written to.
    seed : int
        Of the data, the network, the order of the batches and all that is drawn.
    epochs : int
        Passes over the training data.
    """

    picture: Path
    seed: int = 0
    epochs: int = 200


@dataclass(frozen=True)
class Command:
    """One example as a command.

    Attributes
    ----------
    name : str
        How it is called: "python -m ...".
    about : str
        What ``--help`` says of it.
    picture : str
        The picture's name, where no other is given.
    epochs, quick_epochs : int
        Passes over the training data, and with ``--quick``.
    points : str
        What it trains on, in words.
    packages : sequence of str
        What it needs beside Hoarfrost, by the names that are imported.
    run : callable
        Does the work.
    """

    name: str
    about: str
    picture: str
    epochs: int
    quick_epochs: int
    points: str
    packages: Sequence[str]
    run: Callable[[Settings], None]


def run_command(command: Command, arguments: Sequence[str] | None = None) -> int:
    """Run an example.

    Parameters
    ----------
    command : Command
        The example.
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0; 1 if something failed; 2 if an argument or the installation does not allow a start;
        130 if it was interrupted.
    """

    def say(message: str, code: int) -> int:
        print(f"{command.name}: {message}", file=sys.stderr)
        return code

    options = _parser(command).parse_args(arguments)
    for module in command.packages:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return say(
                f"{error.name or module} is not installed; "
                'pip install "hoarfrost[demo]" installs what this command needs',
                2,
            )
    folder = options.output
    picture = options.picture if folder is None else folder / command.picture
    try:
        check_destination(picture)
    except HoarfrostError as error:
        return say(str(error), 2)
    epochs = options.epochs or (command.quick_epochs if options.quick else command.epochs)
    try:
        command.run(Settings(picture=picture, seed=options.seed, epochs=epochs))
    except KeyboardInterrupt:
        return say("interrupted; no picture was written", 130)
    except (HoarfrostError, OSError) as error:
        return say(str(error), 1)
    return 0


def _parser(command: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command.name,
        description=command.about,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--picture",
        type=Path,
        default=Path(command.picture),
        metavar="FILE",
        help=f"the picture, a .png, .pdf or .svg file (default: {command.picture} in this folder)",
    )
    place.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"a folder that exists, for the picture under the name {command.picture}",
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
        help=f"passes over the {command.points} (default: {command.epochs})",
    )
    length.add_argument(
        "--quick",
        action="store_true",
        help=f"only {command.quick_epochs} epochs: to see that it works, not for its numbers",
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
