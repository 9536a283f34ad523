"""The main job: what a posterior buys on signals, then where it helps and where not on digits."""

from __future__ import annotations

import textwrap

from hoarfrost.examples import digits, signals_report
from hoarfrost.examples.command import Settings
from hoarfrost.examples.main_figure import draw
from hoarfrost.examples.output import write_whole
from hoarfrost.examples.signals import NUM_SEEDS, NUM_TEST, SHOWN, Signals, compare_on_signals


def run(settings: Settings) -> None:
    """Do the job, print what comes of it and write the picture."""
    print(
        "1. A network that is too sure: one-dimensional signals of ten classes\n\n"
        f"Data: made here as MNIST-1D is, {SHOWN:,} labels, {NUM_TEST:,} test signals, "
        f"{NUM_SEEDS} seeds\n"
        f"Network: 40-256-128-10, {settings.epochs} epochs of Adam, prior variance 1\n",
        flush=True,
    )
    signals = compare_on_signals(settings.seed, settings.epochs)
    _print_signals(signals)
    print("\n2. A network that is calibrated already: digits, and what is none\n")
    found = digits.run(settings)
    write_whole(settings.picture, lambda path: draw(signals, found, path))
    print(f"\nPicture: {settings.picture}")


def _print_signals(signals: Signals) -> None:
    print(signals_report.table(signals) + "\n")
    for sentence in signals_report.sentences(signals):
        indent = "    " if sentence.startswith(" ") else "  "
        print(textwrap.fill(sentence, 92, subsequent_indent=indent))
    print("\n" + signals_report.by_labels(signals) + "\n")
    for note in signals_report.notes(NUM_SEEDS):
        print(textwrap.fill(note, 92, subsequent_indent="  "))
