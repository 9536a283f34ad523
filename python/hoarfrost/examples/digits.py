"""Digits, a small network, and an exact Laplace posterior over its last layer."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

from hoarfrost import metric
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.examples import comparison
from hoarfrost.examples.classifier import Classifier
from hoarfrost.examples.command import Settings
from hoarfrost.examples.comparison import (
    CONFIDENCE,
    Measure,
    Predictions,
    compare,
    confidence_sentence,
    pooled,
    score_sentence,
)
from hoarfrost.examples.digits_data import (
    ABOUT_NOT_DIGITS,
    ROTATION_DEGREES,
    DigitsData,
    Points,
    load_digits_data,
)
from hoarfrost.freezing import Subset, make_partition, selection_table
from hoarfrost.laplace import plan_network
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
)

NUM_CLASSES = 10
_BATCH = 100
_NOT_DIGITS = "not digits (three kinds)"
_NOTES = (
    "A difference is told from chance where it shows in the digits printed and exceeds 1.96 of its "
    f"standard errors ({comparison.NUM_RESAMPLES} paired resamples of the points).",
    f"Rotated digits: the test digits turned by {ROTATION_DEGREES} degrees. {ABOUT_NOT_DIGITS}",
)


@dataclass(frozen=True)
class Digits:
    """What MAP and Laplace said of digits, and of what is none.

    Attributes
    ----------
    labelled : sequence of Predictions
        Of digits, as they are and rotated.
    not_digits : Predictions
        Of inputs that are no digits, of all kinds together.
    measures : mapping
        Of each of these, by its name.
    """

    labelled: Sequence[Predictions]
    not_digits: Predictions
    measures: Mapping[str, Mapping[str, Measure]]


def run(settings: Settings) -> Digits:
    """Train, compare and print what comes of it."""
    data = load_digits_data(settings.seed)
    # A weak prior, as in training without weight decay: this is where a network gets too sure.
    model = ProbClassifier(
        Classifier(NUM_CLASSES),
        prior=IsotropicGaussianPrior(log_var=5.0),
        posterior_approximator=LaplacePosteriorApproximator(),
        seed=settings.seed,
    )
    _print_data(data)
    _print_plan(model, data.train.inputs[:_BATCH])
    tuning = _train(model, data, settings)
    _print_prior(tuning, len(data.validation.inputs))
    labelled = [_predict(model, points) for points in (data.test, data.rotated)]
    others = [_predict(model, points) for points in data.not_digits]
    together = pooled(_NOT_DIGITS, others)
    measures = {part.name: compare(part, settings.seed) for part in [*labelled, *others, together]}
    _print_comparison(labelled, others, measures)
    return Digits(labelled, together, measures)


def all_but_head(path: Sequence[str | int], value: Any) -> str:
    """The freeze function: only the last layer stays trainable."""
    return "trainable" if "head" in path else "frozen"


def _print_data(data: DigitsData) -> None:
    parts = (data.train, data.validation, data.test)
    counts = ", ".join(f"{len(part.inputs)} {part.name}" for part in parts)
    print(f"Data: scikit-learn's 8 x 8 images: {counts}\n")


def _print_plan(model: ProbClassifier, inputs: np.ndarray) -> None:
    """Show what will be trainable, and the memory of the posterior over it, before any work."""
    start = model.joint.init(inputs)
    partition = make_partition(start.params, all_but_head, argument="freeze_fun")
    subset = Subset(model.joint.network, partition, start.params, start.mutable or {})
    plan = plan_network(subset, inputs)
    print("MAP training moves every leaf; the posterior is over the trainable ones:")
    print(selection_table(start.params, partition))
    # What the front's "auto" does; the curvature stays, since the prior precision is tuned.
    structure, keep = plan.choose("auto", True)
    needed = plan.bytes_needed(structure, keep) / 2**20
    print(f"\nMemory, before any of it is taken: {plan}")
    print(f"  used here: {structure!r}, {needed:.1f} MiB\n", flush=True)


def _train(model: ProbClassifier, data: DigitsData, settings: Settings) -> dict[str, Any]:
    """MAP, then Laplace over the head; returns what the status says of Laplace."""
    train, validation = (
        DataLoader.from_array_data(
            (part.inputs, part.targets),
            batch_size=_BATCH,
            shuffle=part is data.train,
            seed=settings.seed,
        )
        for part in (data.train, data.validation)
    )
    status = model.train(
        train_data_loader=train,
        val_data_loader=validation,
        fit_config=FitConfig(optimizer=FitOptimizer(freeze_fun=all_but_head)),
        map_fit_config=FitConfig(
            optimizer=FitOptimizer(method=optax.adam(3e-3), n_epochs=settings.epochs),
            monitor=FitMonitor(metrics=(metric.accuracy,), eval_every_n_epochs=10),
        ),
    )
    described: dict[str, Any] = status["fit_status"]["laplace"]
    return described


def _print_prior(described: dict[str, Any], num_validation: int) -> None:
    tuning = described["tuning"]
    low, high = tuning["bounds"]
    print(
        f"Posterior: {described['num_params']:,} parameters, "
        f"{described['hessian_structure']!r} covariance, {described['num_data']} training digits\n"
        f"Prior precision: {described['prior_precision']:.4g} "
        f"(log variance {described['prior_log_variance']:.2f})"
    )
    chosen = (
        f"chosen for the best mean log-probability of the {num_validation} validation digits, "
        f"{tuning['objective']:.4f}, among log variances from {low:g} to {high:g}: "
        f"{tuning['evaluations']} factorisations, one pass over the training digits"
    )
    if tuning["at_bound"]:
        chosen += "; it lies at the end of that range, and the best may lie beyond"
    print(textwrap.fill(chosen, 92, initial_indent="  ", subsequent_indent="  "))


def _predict(model: ProbClassifier, points: Points) -> Predictions:
    loader = InputsLoader.from_array_inputs(points.inputs, batch_size=_BATCH)
    state = model.posterior.state.get()
    return Predictions(
        name=points.name,
        by_map=_positive(model.likelihood.mean(state.params, loader)),
        by_laplace=_positive(model.posterior.laplace.predict(loader, link="probit")),
        targets=points.targets,
    )


def _positive(probabilities: Any) -> np.ndarray:
    """Probabilities without the zeros that float32 rounds to, which make an NLL infinite."""
    array: np.ndarray = np.maximum(np.asarray(probabilities), np.finfo(np.float32).tiny)
    return array


def _print_comparison(
    labelled: Sequence[Predictions],
    others: Sequence[Predictions],
    measures: dict[str, dict[str, Measure]],
) -> None:
    shown = [*labelled, *others]
    print("\n" + comparison.table({part.name: measures[part.name] for part in shown}) + "\n")
    confidences = {part.name: measures[part.name][CONFIDENCE] for part in others}
    for sentence in (
        *(score_sentence(p.name, len(p.by_map), measures[p.name]) for p in labelled),
        confidence_sentence(confidences, NUM_CLASSES),
    ):
        print(textwrap.fill(sentence, 92, subsequent_indent="  "))
    print()
    for note in _NOTES:
        print(textwrap.fill(note, 92, subsequent_indent="  "))
