"""``python -m hoarfrost.examples.results``: the tables of the README's results."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hoarfrost.errors import HoarfrostError
from hoarfrost.examples.output import check_destination, write_whole

_SEEDS, _QUICK_SEEDS = 5, 2
_TASKS = (
    "signals",
    "wrong-labels",
    "rotated-digits",
    "unknown-digits",
    "diabetes",
    "friedman",
    "gaps",
    "whole-narrow",
    "whole-wide",
)
# The task with a picture.
_DRAWN = "gaps"
_PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
_DESCRIPTION = """\
Compares MAP, temperature scaling, Laplace posteriors and other methods over several seeds: on
signals by the number of labels and with wrong labels, on scikit-learn's digits, on two regressions,
on a line with gaps, whose bands are drawn, and on whole networks against their last layer (no
download). Prints markdown tables, and under each of them where Laplace loses and where it wins.
Progress goes to standard error. The same seeds print the same tables on the same machine. The
signals take minutes, the rest less.
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
    for module, package in _PACKAGES.items():
        try:
            importlib.import_module(module)
        except ImportError:
            return _say(
                f'{package} is not installed; pip install "hoarfrost[demo]" installs what this '
                "command needs",
                2,
            )
    target: Path | None = options.json
    if target is not None and (target.is_dir() or not os.access(target.parent, os.W_OK)):
        return _say(f"--json {str(target)!r} cannot be written; name a file in another folder", 2)
    tasks = _TASKS if options.task is None else (options.task,)
    if _DRAWN in tasks:
        try:
            check_destination(options.picture)
        except HoarfrostError as error:
            return _say(str(error), 2)
    seeds = options.seeds or (_QUICK_SEEDS if options.quick else _SEEDS)
    try:
        with _compiling_quickly() if options.quick else nullcontext():
            _run(tasks, seeds, options.quick, target, options.picture)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except (HoarfrostError, OSError) as error:
        return _say(str(error), 1)
    return 0


def _run(tasks: Sequence[str], seeds: int, quick: bool, target: Path | None, picture: Path) -> None:
    from hoarfrost.examples.results import report
    from hoarfrost.progress import progress_bar

    document: dict[str, Any] = {"seeds": seeds, "quick": quick, "tasks": {}}
    print(_paragraph(report.ABOUT))
    if quick:
        print("\nQuick: networks are hardly trained and few points tested; not for its numbers.")
    with progress_bar(description="results", total=len(tasks) * seeds, unit="fit") as bar:
        contest = None
        for name in tasks:
            task = report.TASKS[name]
            collected: dict[Any, dict[str, list[float]]] = {}
            for seed in range(seeds):
                for row, values in task.run(seed, quick).items():
                    for method, value in values.items():
                        collected.setdefault(row, {}).setdefault(method, []).append(value)
                bar.update()
            document["tasks"][name] = report.as_json(collected)
            if task.contest is not contest:
                contest = task.contest
                print(f"\n{_paragraph(contest.about)}")
            print(f"\n### {task.title}\n\n{_paragraph(task.about)}\n")
            print(contest.table(collected, task.printed) + "\n")
            for sentence in report.sentences(collected, task.printed, contest.pairs()):
                print(textwrap.fill(sentence, 100, subsequent_indent="  "))
            if task.draw is not None:
                write_whole(picture, functools.partial(task.draw, quick))
                print(f"\nPicture: {picture}")
            sys.stdout.flush()
    if target is not None:
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"

        def write(path: Path) -> None:
            path.write_text(text, encoding="utf-8")

        write_whole(target, write)


@contextmanager
def _compiling_quickly() -> Iterator[None]:
    """A quick run is mostly compilation, of programs that hardly run."""
    import jax

    option = "jax_disable_most_optimizations"
    before = jax.config.read(option)  # type: ignore[no-untyped-call]
    jax.config.update(option, True)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        jax.config.update(option, before)  # type: ignore[no-untyped-call]


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hoarfrost.examples.results", description=_DESCRIPTION
    )
    parser.add_argument(
        "--seeds",
        type=_positive,
        metavar="N",
        help=f"seeds 0 to N - 1 (default: {_SEEDS}; with --quick {_QUICK_SEEDS})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few epochs, few labels and test points: to see that it works, not for its numbers",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every number goes too")
    parser.add_argument(
        "--picture",
        type=Path,
        default=Path("gaps.png"),
        metavar="FILE",
        help="the bands about the line with gaps, a .png, .pdf or .svg file (default: gaps.png)",
    )
    parser.add_argument("--task", choices=_TASKS, help="only this one")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000")
    return int(text)


def _say(message: str, code: int) -> int:
    print(f"python -m hoarfrost.examples.results: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
