"""``python -m hoarfrost.examples.learnt_priors``: priors learnt in training, by the evidence.

Held against a prior that stays, and against the weight decay, out of seven, of the best held-out
NLL.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hoarfrost.errors import HoarfrostError

_SEEDS, _QUICK_SEEDS = 5, 2
FIXED, DECAY = "prior that stays", "weight decay, held out"
LAYERWISE, SCALAR = "learnt, layerwise", "learnt, scalar"
METHODS = (FIXED, DECAY, LAYERWISE, SCALAR)
# Prior precisions, each a weight decay of so much over the number of points.
DECAYS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_HELD_OUT = 5
# The prior is set after each part of the epochs, of so many, but the last.
_STOPS = 10
_BATCH, _TEST = 50, 2000
_DESCRIPTION = f"""\
Trains networks on signals and on two regressions under a prior that stays (a standard normal),
under the one of {len(DECAYS)} weight decays that predicts a held-out fifth of the labels best, and
under a prior that is learnt on the way from all labels (hoarfrost.methods.fit_map with
tune_prior="evidence", curvature "kron"). Prints a markdown table for each; no download.
"""
_ABOUT = (
    f"Adam 3e-3, batches of {_BATCH}. Weight decay: trained on four fifths, the decay of "
    f"{', '.join(f'{one:g}' for one in DECAYS)} with the best NLL on the last fifth. Learnt: all "
    "labels, the prior set after each tenth of the epochs. Predictions are those of the trained "
    "network alone. Of a regression the noise is learnt with the prior, or is the root mean square "
    "of the residuals: of the held-out fifth, or under the prior that stays of the training "
    "points. Cost: processor time over that of the prior that stays. Means over the seeds ± "
    "standard errors; differences are paired by seed."
)


@dataclass(frozen=True)
class Problem:
    """What a network is trained on.

    Attributes
    ----------
    network : flax.linen.Module
        The network.
    inputs, targets : ndarray
        Training points.
    test_inputs, test_targets : ndarray
        Test points.
    seed : int
        Of the network and the order of the batches.
    epochs : int
        Passes over the training points.
    """

    network: Any
    inputs: np.ndarray
    targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    seed: int
    epochs: int

    @property
    def classifies(self) -> bool:
        """Whether targets are classes."""
        return self.targets.ndim == 1

    def first(self, count: int) -> Problem:
        """With fewer training points, the others to test."""
        return replace(
            self,
            inputs=self.inputs[:count],
            targets=self.targets[:count],
            test_inputs=self.inputs[count:],
            test_targets=self.targets[count:],
        )


def signals(count: int, seed: int, epochs: int) -> Problem:
    """Signals of ten classes; the same test signals for every `count`."""
    from hoarfrost.examples.classifier import Classifier
    from hoarfrost.examples.signals_data import NUM_CLASSES, make_signals

    x, y = make_signals(2 * _TEST, seed)
    return Problem(
        Classifier(NUM_CLASSES), x[:count], y[:count], x[-_TEST:], y[-_TEST:], seed, epochs
    )


def regression(name: str, seed: int, epochs: int) -> Problem:
    """scikit-learn's diabetes data, or Friedman's first problem; standardised."""
    from sklearn.datasets import load_diabetes, make_friedman1

    from hoarfrost.examples.results.regression_tasks import MeanNet

    if name == "diabetes":
        x, y = load_diabetes(return_X_y=True)
        count = 352
    else:
        x, y = make_friedman1(n_samples=1300, noise=1.0, random_state=seed)
        count = 300
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], y[order, None]
    parts = []
    for values in (x, y):
        own = values[:count]
        parts.append(((values - own.mean(axis=0)) / own.std(axis=0)).astype(np.float32))
    x, y = parts
    return Problem(MeanNet(), x[:count], y[:count], x[count:], y[count:], seed, epochs)


# A name, and the problem of a seed and a number of epochs.
TASKS: dict[str, Callable[[int, int], Problem]] = {
    "signals-500": lambda seed, epochs: signals(500, seed, epochs),
    "signals-1000": lambda seed, epochs: signals(1000, seed, epochs),
    "diabetes": lambda seed, epochs: regression("diabetes", seed, epochs),
    "friedman": lambda seed, epochs: regression("friedman", seed, epochs),
}


def compare(problem: Problem) -> dict[str, dict[str, float]]:
    """Scores of every method on the test points, and the processor time of its training."""
    rest = problem.first(len(problem.targets) - len(problem.targets) // _HELD_OUT)
    tried: list[tuple[float, int, Any, Any]] = []
    seconds = 0.0
    for decay in DECAYS:
        fitted, own = _train(rest, prior_precision=decay)
        noise = None if problem.classifies else _spread(rest, fitted)
        tried.append((scores(rest, fitted, noise)["NLL"], len(tried), fitted, noise))
        seconds += own
    _, _, best, noise = min(tried, key=lambda one: one[:2])
    found = {DECAY: scores(problem, best, noise) | {"seconds": seconds}}
    fitted, own = _train(problem)
    of_training = replace(problem, test_inputs=problem.inputs, test_targets=problem.targets)
    noise = None if problem.classifies else _spread(of_training, fitted)
    found[FIXED] = scores(problem, fitted, noise) | {"seconds": own}
    for method, structure in ((LAYERWISE, "layerwise"), (SCALAR, "scalar")):
        fitted, own = _train(
            problem,
            tune_prior="evidence",
            structure=structure,
            every=max(1, problem.epochs // _STOPS),
            burn_in=max(1, problem.epochs // _STOPS),
        )
        found[method] = scores(problem, fitted, fitted.likelihood) | {"seconds": own}
    return {method: found[method] for method in METHODS}


def scores(problem: Problem, fitted: Any, likelihood: Any) -> dict[str, float]:
    """NLL, ECE and accuracy of classes; NLL and RMSE of numbers under Gaussian noise."""
    from hoarfrost.examples.results.scores import class_scores

    found = fitted.predict(problem.test_inputs)
    if problem.classifies:
        logs = np.log(np.maximum(found, np.finfo(np.float64).tiny))
        own = class_scores(logs, problem.test_targets)
        return {name: own[name] for name in ("NLL", "ECE", "accuracy")}
    outputs = np.asarray(found[0], np.float64)
    log_density = likelihood.marginal_log_prob(
        outputs, np.zeros((len(outputs), 1, 1)), problem.test_targets
    )
    error = float(np.sqrt(np.mean((outputs - problem.test_targets) ** 2)))
    return {"NLL": -float(log_density.mean()), "RMSE": error}


def _train(problem: Problem, **options: Any) -> tuple[Any, float]:
    import jax

    from hoarfrost.data import DataLoader
    from hoarfrost.examples.methods.settings import adam
    from hoarfrost.methods import fit_map

    loader = DataLoader.from_array_data(
        (problem.inputs, problem.targets), batch_size=_BATCH, shuffle=True, seed=problem.seed
    )
    start = problem.network.init(jax.random.PRNGKey(problem.seed), problem.inputs[:1])
    began = time.process_time()
    fitted = fit_map(
        problem.network,
        start,
        loader,
        likelihood="categorical" if problem.classifies else "gaussian",
        optimizer=adam(),
        n_epochs=problem.epochs,
        seed=problem.seed,
        progress=False,
        **options,
    )
    return fitted, time.process_time() - began


def _spread(problem: Problem, fitted: Any) -> Any:
    """Gaussian noise as large as the residuals are at the test points."""
    from hoarfrost.likelihood import Gaussian

    residuals = fitted.predict(problem.test_inputs)[0] - problem.test_targets
    return Gaussian(float(np.sqrt(np.mean(residuals**2))))


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A markdown table: a method a line, a score a column."""
    from hoarfrost.examples.results.scores import summarise

    names = [name for name in found[FIXED] if name != "seconds"]
    lines = [f"| method | {' | '.join(names)} | cost |", "|---" * (len(names) + 2) + "|"]
    for method, values in found.items():
        cells = [str(summarise(values[name])) for name in names]
        # The first seed compiles.
        pairs = zip(values["seconds"][1:], found[FIXED]["seconds"][1:], strict=True)
        ratios = [own / plain for own, plain in pairs]
        cost = f"{np.median(ratios):.1f}" if ratios else "-"
        lines.append(f"| {method} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)


def sentences(found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Where a learnt prior loses and wins, by more than two standard errors."""
    from hoarfrost.examples.results.scores import Row, verdict

    said = []
    for method in (LAYERWISE, SCALAR):
        for other in (FIXED, DECAY):
            groups: dict[str, list[str]] = {"loses": [], "wins": [], "same": []}
            for name in (one for one in found[FIXED] if one != "seconds"):
                result = verdict(Row(name, ""), found[method][name], found[other][name])
                if result is not None:
                    groups[result].append(name)
            parts = [
                f"{'cannot be told apart' if kind == 'same' else f'**{kind}**'} in {', '.join(own)}"
                for kind, own in groups.items()
                if own
            ]
            said.append(f"- {method} against {other}: {'; '.join(parts)}.")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 if something failed, 2 if it cannot start, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m hoarfrost.examples.learnt_priors", description=_DESCRIPTION
    )
    parser.add_argument("--seeds", type=int, metavar="N", help=f"default: {_SEEDS}")
    parser.add_argument("--quick", action="store_true", help="few epochs: not for its numbers")
    parser.add_argument("--task", choices=tuple(TASKS), help="only this one")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; give at least 1")
    try:
        importlib.import_module("sklearn")
    except ImportError:
        print('scikit-learn is not installed; pip install "hoarfrost[demo]"', file=sys.stderr)
        return 2
    seeds = options.seeds or (_QUICK_SEEDS if options.quick else _SEEDS)
    try:
        print(textwrap.fill(_ABOUT, 100))
        for name in TASKS if options.task is None else (options.task,):
            _report(name, seeds, options.quick)
    except KeyboardInterrupt:
        return 130
    except (HoarfrostError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _report(name: str, seeds: int, quick: bool) -> None:
    from hoarfrost.progress import progress_bar

    found: dict[str, dict[str, list[float]]] = {}
    epochs = 12 if quick else (100 if name.startswith("signals") else 300)
    with progress_bar(description=name, total=seeds, unit="seed") as bar:
        for seed in range(seeds):
            for method, values in compare(TASKS[name](seed, epochs)).items():
                for score, value in values.items():
                    found.setdefault(method, {}).setdefault(score, []).append(value)
            bar.update()
    print(f"\n### {name}\n\n{table(found)}\n")
    if seeds > 1:
        print(
            "\n".join(textwrap.fill(one, 100, subsequent_indent="  ") for one in sentences(found))
        )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
