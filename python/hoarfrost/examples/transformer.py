"""``python -m hoarfrost.examples.transformer``: an encoder with dropout and a Bayesian head."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flax import nnx

from hoarfrost.examples.bayesian_head import bayesian_head, print_network
from hoarfrost.examples.command import Command, Settings, run_command
from hoarfrost.examples.reviews import (
    ABOUT,
    CLASSES,
    LENGTH,
    NUM_TRAIN,
    NUM_VALIDATION,
    VOCABULARY,
    Reviews,
    make_reviews,
    text_of,
)
from hoarfrost.examples.scoreboard import Answers
from hoarfrost.examples.scoreboard_report import report
from hoarfrost.model.nnx import TransformerEncoder

_ABOUT = f"""\
Trains a small transformer encoder (in NNX, with dropout and masks for padding) to tell praise from
blame in {NUM_TRAIN} reviews out of a small grammar (no download), and makes its last layer
Bayesian: the exact Laplace posterior, its prior chosen by the evidence. It takes a minute or two.

It prints a table of the trained network alone (MAP), with its temperature scaled, and with the
Bayesian head: on test reviews, on the same with unknown words in them, and on sequences of words
that are no reviews; below it, what was won and what was lost. A picture shows the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see `hoarfrost.examples.command.run_command`."""
    command = Command(
        name="python -m hoarfrost.examples.transformer",
        about=_ABOUT,
        picture="hoarfrost-transformer.png",
        epochs=40,
        quick_epochs=2,
        points="training reviews",
        packages=("matplotlib",),
        run=run,
    )
    return run_command(command, arguments)


def run(settings: Settings) -> None:
    """Do the job, print what comes of it and write the picture."""
    data = make_reviews(settings.seed)
    network = TransformerEncoder(
        output_dim=len(CLASSES),
        vocab_size=len(VOCABULARY),
        max_length=LENGTH,
        width=32,
        depth=2,
        num_heads=4,
        dropout_rate=0.1,
        rngs=nnx.Rngs(settings.seed),
    )
    print_network("a transformer encoder with dropout", network)
    print(f"Data: {NUM_TRAIN} training reviews, {NUM_VALIDATION} validation reviews, such as")
    for ids in data.train.inputs["input_ids"][:3]:
        print(f"  {text_of(ids)}")
    print()
    predict = bayesian_head(
        network,
        (data.train.inputs, data.train.targets),
        (data.validation.inputs, data.validation.targets),
        epochs=settings.epochs,
        learning_rate=3e-3,
        seed=settings.seed,
    )

    def answers(reviews: Reviews) -> Answers:
        return Answers(reviews.name, predict(reviews.inputs), reviews.targets)

    report(
        answers(data.test),
        [answers(data.spoilt)],
        [answers(reviews) for reviews in data.others],
        "review",
        ABOUT,
        settings,
    )


if __name__ == "__main__":
    sys.exit(main())
