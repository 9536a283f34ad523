"""A line measured in three places, and asked for between and beyond them."""

from __future__ import annotations

import numpy as np

import hoarfrost
from hoarfrost.examples.methods.fits import FITS, MAP, NETWORK, LogProb, Predict, predictions
from hoarfrost.examples.methods.problem import Problem
from hoarfrost.examples.methods.scored import interval
from hoarfrost.examples.methods.tasks import Net, Task, trained_task
from hoarfrost.examples.results.scores import Row, Scores, number_scores
from hoarfrost.laplace.structure.registry import NAMES
from hoarfrost.likelihood import Gaussian

# "dual" is the same posterior as "full".
_STRUCTURES = tuple(name for name in NAMES if name != "dual")
LAPLACES = tuple(f"Laplace, {name}" for name in _STRUCTURES)
BASELINES = (MAP,)
OTHERS = ("ADVI", "ensemble", "SGHMC")
METHODS = (*BASELINES, *LAPLACES, *OTHERS)
MEASURED = ((-4.0, -2.5), (-0.75, 0.75), (2.5, 4.0))
# Where test points lie, each part as likely by its length.
PARTS = {
    "data": MEASURED,
    "gaps": ((-2.5, -0.75), (0.75, 2.5)),
    "beyond": ((-6.0, -4.0), (4.0, 6.0)),
}
NOISE_STD = 0.1
_NUM_TRAIN, _NUM_TEST = 50, 1000
_WIDTH = 50
_EPOCHS, _QUICK_EPOCHS = 5000, 15
# Squared step of the samplers.
_STEP = 1e-5
ABOUT = (
    f"{_NUM_TRAIN} points of sin(1.5 x) + 0.1 x with a noise of {NOISE_STD}, x in three intervals; "
    f"to test {_NUM_TEST:,} from these, from the two gaps between them and from beyond them. "
    "Coverage: of the 90 % interval, at best 0.900."
)


def gaps(seed: int, quick: bool) -> Scores:
    """Score every method where there are data, between them and beyond them.

    Parameters
    ----------
    seed : int
        Of the points, the network and all that is drawn.
    quick : bool
        Few epochs, and fewer points to test.
    """
    generator = np.random.default_rng((seed, 1))
    tests = {where: _points(parts, _NUM_TEST, generator) for where, parts in PARTS.items()}
    scores: dict[Row, dict[str, float]] = {}
    for method, (predict, log_prob) in fit_line(seed, quick).items():
        for where, (inputs, targets) in tests.items():
            moments = predict(inputs)
            density = log_prob(inputs, targets)
            found = number_scores(density, moments[0], interval(moments), targets)
            for name, value in found.items():
                scores.setdefault(Row(name, where), {})[method] = value
    return scores


def fit_line(seed: int, quick: bool) -> dict[str, tuple[Predict, LogProb]]:
    """Every method of `METHODS`: what it predicts, means and variances ``(2, B, 1)``."""
    task = _task(seed, quick)
    problem = task.problem
    found = {MAP: predictions(task.trained, problem)}
    for name, structure in zip(LAPLACES, _STRUCTURES, strict=True):
        found[name] = predictions(_by_evidence(problem, structure), problem)
    for name in OTHERS:
        found[name] = predictions(FITS[name](problem, NETWORK, seed, quick), problem)
    return found


def line(inputs: np.ndarray) -> np.ndarray:
    """What is measured, without its noise."""
    return np.asarray(np.sin(1.5 * inputs) + 0.1 * inputs)


def train_points(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, each ``(50, 1)``, float32."""
    return _points(MEASURED, _NUM_TRAIN, np.random.default_rng((seed, 0)))


def _task(seed: int, quick: bool) -> Task:
    train = train_points(seed)
    return trained_task(
        "line",
        ABOUT,
        Net(_WIDTH, 1),
        Gaussian(noise_std=NOISE_STD),
        train,
        train,
        train[0],
        _STEP,
        seed,
        _QUICK_EPOCHS if quick else _EPOCHS,
        quick,
    )


def _by_evidence(problem: Problem, structure: str) -> hoarfrost.Laplace:
    posterior = hoarfrost.fit_laplace(
        problem.network,
        problem.params,
        problem.train,
        likelihood=problem.likelihood,
        hessian_structure=structure,  # type: ignore[arg-type]
        progress=False,
    )
    posterior.optimize_prior_precision()
    return posterior


def _points(
    parts: tuple[tuple[float, float], ...], count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.array(parts).T
    chosen = generator.choice(len(parts), count, p=(high - low) / (high - low).sum())
    inputs = generator.uniform(low[chosen], high[chosen])[:, None]
    targets = line(inputs) + NOISE_STD * generator.standard_normal((count, 1))
    return inputs.astype(np.float32), targets.astype(np.float32)
