"""``python -m hoarfrost.examples.methods``: all methods on the same head and the same network."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from hoarfrost.examples.command import Command, Settings, run_command

_SEEDS, _QUICK_SEEDS = 5, 2
_DESCRIPTION = """\
Compares MAP, Laplace, SWAG, ADVI, IVON, deep ensembles, SGHMC, cyclical SGLD and SNGP on the last
layer and on all parameters of a small network: scikit-learn's digits with three classes held out,
and Friedman's regression, five seeds (no download). Tables of what each costs and how well it
predicts, where Laplace loses and wins, and a picture.
"""
_FULL = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see `hoarfrost.examples.command.run_command`."""
    command = Command(
        name="python -m hoarfrost.examples.methods",
        about=_DESCRIPTION,
        picture="methods.png",
        epochs=_FULL,
        quick_epochs=5,
        points="training data",
        packages=("sklearn", "matplotlib"),
        run=_run,
    )
    return run_command(command, arguments)


def _run(settings: Settings) -> None:
    # Here, as it loads JAX, which a wrong argument need not wait for.
    from hoarfrost.examples.methods import report
    from hoarfrost.examples.methods.fits import METHODS, SUBSETS, fit
    from hoarfrost.examples.methods.scored import scores
    from hoarfrost.examples.methods.tasks import TASKS
    from hoarfrost.examples.output import write_whole
    from hoarfrost.progress import progress_bar

    quick = settings.epochs < _FULL
    seeds = range(settings.seed, settings.seed + (_QUICK_SEEDS if quick else _SEEDS))
    found: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    print(textwrap.fill(report.ABOUT, 100))
    total = len(TASKS) * len(seeds) * len(SUBSETS) * len(METHODS)
    with progress_bar(description="methods", total=total, unit="fit") as bar:
        for name, make in TASKS.items():
            for seed in seeds:
                task = make(seed, settings.epochs, quick)
                for subset in SUBSETS:
                    own = found.setdefault((name, subset), {})
                    for method in METHODS:
                        fitted = fit(method, task, subset, seed, quick)
                        for score, value in scores(fitted, task).items():
                            own.setdefault(score, {}).setdefault(method, []).append(value)
                        bar.update()
            for subset in SUBSETS:
                print(f"\n### {task.name}, {subset}\n")
                print(textwrap.fill(task.about, 100) + "\n")
                print(report.table(found[name, subset]) + "\n")
                for sentence in report.sentences(found[name, subset]):
                    print(textwrap.fill(sentence, 100, subsequent_indent="  "))
            sys.stdout.flush()
    write_whole(settings.picture, lambda path: report.draw(found, path))
    print(f"\nPicture: {settings.picture}")


if __name__ == "__main__":
    sys.exit(main())
