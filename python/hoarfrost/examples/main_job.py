"""The main job: what a posterior buys on signals, then where it helps and where not on digits."""

from __future__ import annotations

import textwrap

from hoarfrost.examples import digits, signals_report
from hoarfrost.examples.command import Settings
from hoarfrost.examples.comparison import CONFIDENCE, gap
from hoarfrost.examples.digits import Digits
from hoarfrost.examples.main_figure import draw
from hoarfrost.examples.output import write_whole
from hoarfrost.examples.signals import (
    BATCH,
    LAPLACE,
    MAP,
    NUM_SEEDS,
    NUM_TEST,
    SHOWN,
    Signals,
    compare_on_signals,
)
from hoarfrost.examples.signals_report import VERDICTS


def run(settings: Settings) -> None:
    """Do the job, print what comes of it and write the picture."""
    print(
        "1. Signals: ten classes, few labels\n\n"
        f"Data: made here as MNIST-1D is, {SHOWN:,} labels, {NUM_TEST:,} test signals, "
        f"{NUM_SEEDS} seeds\n"
        f"Network: 40-256-128-10, {settings.epochs} epochs of Adam in batches of {BATCH}, "
        "prior variance 1\n",
        flush=True,
    )
    signals = compare_on_signals(settings.seed, settings.epochs)
    _print_signals(signals)
    print("\n2. Digits, rotated digits, and what is no digit\n")
    found = digits.run(settings)
    print("\n" + textwrap.fill(conclusion(signals, found), 92, subsequent_indent="  "))
    write_whole(settings.picture, lambda path: draw(signals, found, path))
    print(f"\nPicture: {settings.picture}")


def conclusion(signals: Signals, found: Digits) -> str:
    """How sure MAP is on both and how Laplace does there, as the numbers have it."""
    probabilities = signals.probabilities[MAP]
    right = float((probabilities.argmax(axis=1) == signals.targets).mean())
    first = gap(float(probabilities.max(axis=1).mean()), right)
    judged = signals_report.difference(signals, SHOWN, LAPLACE, MAP, "NLL").verdict
    test = found.labelled[0]
    measures = found.measures[test.name]
    second = gap(measures[CONFIDENCE].by_map, measures["accuracy"].by_map)
    of_digits = {"lower": "better", "higher": "worse", "same": "same"}[measures["NLL"].verdict]
    return (
        f"Both together: on signals MAP's mean confidence is {first} its accuracy, and Laplace's "
        f"NLL is {VERDICTS[judged]} MAP's; on {test.name} it is {second} it, and Laplace's NLL is "
        f"{VERDICTS[of_digits]} MAP's."
    )


def _print_signals(signals: Signals) -> None:
    print(signals_report.table(signals) + "\n")
    for sentence in signals_report.sentences(signals):
        indent = "    " if sentence.startswith(" ") else "  "
        print(textwrap.fill(sentence, 92, subsequent_indent=indent))
    print("\n" + signals_report.by_labels(signals) + "\n")
    print(textwrap.fill(signals_report.other_losses(signals), 92, subsequent_indent="  ") + "\n")
    for note in signals_report.notes(NUM_SEEDS):
        print(textwrap.fill(note, 92, subsequent_indent="  "))
