"""What a posterior says of targets: the network's outputs under it, through a link."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_draws
from hoarfrost.data.checked import CheckedBatch, data_batches
from hoarfrost.data.positions import in_positions
from hoarfrost.errors import DataError, InvalidArgumentError
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.structure.base import Factor
from hoarfrost.likelihood import Classification, Likelihood, Regression
from hoarfrost.memory import check_room
from hoarfrost.predictive.evaluate import over_outputs, over_weights
from hoarfrost.predictive.link import Draws, Link, Quantity, choose_link, quantity_of
from hoarfrost.predictive.prediction import RegressionPrediction
from hoarfrost.types import Array, Tree


@dataclass(frozen=True)
class Predictor:
    """A posterior as its predictions need it.

    Attributes
    ----------
    linearised : LinearisedNetwork
        The network at the mean.
    factor : Factor
        Of the precision.
    sample : callable (seed, n_samples) -> tree
        Draws of the trainable leaves.
    """

    linearised: LinearisedNetwork
    factor: Factor
    sample: Callable[[int, int], Tree]

    def predict(self, inputs: Tree, link: str | None, draws: Draws, log: bool) -> Any:
        """Probabilities or their logarithms, moments of numbers, or means of anything else."""
        likelihood = self.linearised.likelihood
        quantity = quantity_of(likelihood)
        chosen = choose_link(quantity, likelihood, link)
        if log and quantity != "probabilities":
            raise InvalidArgumentError(
                f"log is True, but predictions of the {likelihood.name} likelihood are no "
                "probabilities; leave it out, or use log_prob for the density of given targets"
            )
        found = self._at(quantity, chosen, inputs, draws)
        if quantity == "moments":
            mean, epistemic, noise = found
            return mean, epistemic + noise
        return np.exp(found) if quantity == "probabilities" and not log else found

    def regression(self, inputs: Tree, link: str | None, draws: Draws) -> RegressionPrediction:
        """Moments of numbers, in their parts."""
        likelihood = self.linearised.likelihood
        chosen = choose_link("moments", likelihood, link)
        mean, epistemic, noise = self._at("moments", chosen, inputs, draws)
        gaussian = bool(getattr(likelihood, "gaussian_targets", False))
        return RegressionPrediction(mean, epistemic, noise, likelihood.name, gaussian)

    def log_prob(self, data_loader: Any, link: str | None, draws: Draws) -> Array:
        """Log-densities of targets: of all positions, or of those that count where some do not.

        Those of batches whose examples have different positions come in one axis, too.
        """
        chosen = choose_link("density", self.linearised.likelihood, link)
        linearised, first, rows, positions = self._rows(data_loader)
        found = self._targets(linearised, "density", chosen, rows, draws)
        one_axis = first.mask is not None or len(set(positions)) > 1
        return found if one_axis else in_positions(found, positions[0])

    def mean_log_probs(
        self, data_loader: Any, link: str | None, draws: Draws, temperatures: Array
    ) -> Array:
        """Mean log-density of targets with the covariance times each of these, in one pass."""
        chosen = choose_link("density", self.linearised.likelihood, link)
        if chosen.needs == "weights":
            each = [self._spread(t).log_prob(data_loader, link, draws) for t in temperatures]
            return np.array([np.mean(one, dtype=float) for one in each])
        linearised, _, rows, _ = self._rows(data_loader)
        likelihood, sums, count = linearised.likelihood, np.zeros(len(temperatures)), 0
        for piece in linearised.gaussian_outputs(self.factor, rows, chosen.needs):
            for place, temperature in enumerate(temperatures):
                spread = [piece.spread(float(temperature))]
                found = over_outputs(chosen, "density", likelihood, spread, draws)
                sums[place] += np.sum(found, dtype=float)
            count += len(piece.mean)
        if not count:
            raise DataError("no target counts: every one is masked or the ignored label")
        return sums / count

    def _rows(
        self, data_loader: Any
    ) -> tuple[LinearisedNetwork, CheckedBatch, Iterator[CheckedBatch], list[tuple[int, ...]]]:
        """The network, the first batch, and all batches with targets in rows, checked.

        The positions of batches that follow one another are added to the list as they go by.
        """
        given, data_loader = self.linearised.given(data_loader, "data_loader")
        batches = data_batches(data_loader, one_shape=False, masks=True)
        positions: list[tuple[int, ...]] = []

        def checked() -> Iterator[CheckedBatch]:
            for here, some in given.by_positions(batches):
                positions.append(here.positions)
                yield from map(here.checked, some)

        rows = checked()
        first = next(rows)
        linearised, rows = given.at(itertools.chain([first], rows))
        return linearised, first, rows, positions

    def _spread(self, temperature: float) -> Predictor:
        """With draws whose covariance is multiplied by a number."""
        root, mean = math.sqrt(temperature), self.linearised.trainable

        def sample(seed: int, n_samples: int) -> Tree:
            draws = self.sample(seed, n_samples)
            return jax.tree.map(lambda draw, m: m + root * (draw - m), draws, mean)

        return dataclasses.replace(self, sample=sample)

    def _at(self, quantity: Quantity, link: Link, inputs: Tree, draws: Draws) -> Array:
        linearised, inputs = self.linearised.given_inputs(inputs)
        linearised, batches = linearised.at(linearised.batches(inputs))
        found = self._targets(linearised, quantity, link, batches, draws)
        return in_positions(found, linearised.positions, 1 if quantity == "moments" else 0)

    def _targets(
        self,
        linearised: LinearisedNetwork,
        quantity: Quantity,
        link: Link,
        batches: Iterator[CheckedBatch],
        draws: Draws,
    ) -> Array:
        likelihood = linearised.likelihood
        if link.needs == "weights":
            samples = linearised.weight_samples(self.sample(draws.seed, draws.n_samples))
            return over_weights(quantity, likelihood, linearised.subset.network, samples, batches)
        outputs = linearised.gaussian_outputs(self.factor, batches, link.needs)
        return over_outputs(link, quantity, likelihood, outputs, draws)


def check_classes(likelihood: Likelihood) -> None:
    """Raise `InvalidArgumentError` unless the likelihood is one of classes."""
    if not isinstance(likelihood, Classification):
        raise InvalidArgumentError(
            f"predict_proba is for classes, and the likelihood is {likelihood.name!r}; use "
            "predict or predict_regression"
        )


def check_numbers(likelihood: Likelihood) -> None:
    """Raise `InvalidArgumentError` unless the likelihood is one of numbers, with a variance."""
    if isinstance(likelihood, Classification) or not isinstance(likelihood, Regression):
        raise InvalidArgumentError(
            f"predict_regression is for real targets and counts, and the likelihood is "
            f"{likelihood.name!r}; use predict"
        )


def checked_draws(seed: Any, n_samples: Any) -> Draws:
    """What a link draws by; raises where the least that any draws for a point does not fit."""
    seed, n_samples = check_draws(seed, n_samples)
    # The system is not asked at every small question.
    if n_samples > 2**20:
        check_room(f"{n_samples} samples", 2 * 8 * n_samples, "give a smaller n_samples")
    return Draws(seed, n_samples)
