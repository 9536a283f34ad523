"""What every method gives: a distribution over the trainable parameters of a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from hoarfrost.checks import check_count, check_key
from hoarfrost.data.checked import CheckedBatch, data_batches, input_batches
from hoarfrost.data.features import as_plain, features_alone, origin_of
from hoarfrost.data.positions import in_positions
from hoarfrost.errors import DataError, InvalidArgumentError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import over_features
from hoarfrost.likelihood import Classification, Likelihood, Regression
from hoarfrost.likelihood.points import Points
from hoarfrost.methods.draws import Distribution, Draws
from hoarfrost.methods.export import ServedDraws, to_jax
from hoarfrost.methods.outputs import output_covariance
from hoarfrost.methods.problem import Problem
from hoarfrost.network import Network, write_to_module
from hoarfrost.predictive.evaluate import over_weights
from hoarfrost.predictive.link import quantity_of
from hoarfrost.predictive.prediction import RegressionPrediction
from hoarfrost.predictive.weight_samples import WeightSamples, with_own
from hoarfrost.types import Array, Tree

# Draws of a distribution that does not list its values, where a call does not say how many.
_DRAWS = 100


@dataclass(frozen=True, eq=False, repr=False)
class WeightPosterior:
    """An approximate posterior over the trainable parameters, by its draws.

    Every method of `hoarfrost.methods` gives one. Where it lists its values (members of an
    ensemble, samples of a chain), predictions take all of them unless `n_samples` says how many
    are drawn; else they draw 100.

    Attributes
    ----------
    method : str
        Its name: "map", "swag", "advi", "deep_ensemble", "sghmc", "cyclical_sgld", "ivon", "sngp".
    distribution : Distribution
        Over the trainable parameters.
    num_data : int
        How many data points it was fitted to.
    example : tree of jax.ShapeDtypeStruct
        Shapes and dtypes of one example of the inputs.
    status : mapping
        What was recorded: "loss" ``(epochs,)`` and what the method adds; "features" says whether
        the frozen part of the network ran once.
    """

    method: str
    subset: Subset = field(repr=False)
    likelihood: Likelihood
    distribution: Distribution
    num_data: int
    ignored_label: int | None = None
    moving: tuple[bool, ...] = ()
    example: Tree = field(default=None, repr=False)
    status: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        listed = self.distribution.listed
        values = "" if listed is None else f", {listed.size} values listed"
        return (
            f"WeightPosterior({self.method!r}, {self.num_params:,} parameters, "
            f"{self.num_data:,} data points{values})"
        )

    @property
    def num_params(self) -> int:
        """P, the number of trainable parameters."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.subset.trainable))

    @property
    def nbytes(self) -> int:
        """Bytes of the distribution, beside the network."""
        return self.distribution.nbytes

    @property
    def mean(self) -> Tree:
        """Of the trainable parameters, a tree like theirs."""
        return self.distribution.mean

    def sample(self, seed: Any = 0, n_samples: int = 1) -> Tree:
        """Draws of the trainable parameters, a tree like theirs with a leading axis `n_samples`.

        Of listed values each comes as often as the others, but for a rest of fewer than there are.
        """
        return self._draws(seed, n_samples).trainable

    def merge(self, tree: Tree | None = None) -> Tree:
        """The full parameters with these trainable leaves; by default with their mean.

        Raises
        ------
        ShapeError, SelectionError, InvalidArgumentError
            If the leaves are not the trainable ones.
        """
        if tree is None:
            like = self.subset.trainable
            tree = jax.tree.map(lambda one, leaf: one.astype(leaf.dtype), self.mean, like)
        return self.subset.network.join(self.subset.merged(tree), self.subset.mutable)

    def weight_samples(self, n_samples: int | None = None, seed: Any = 0) -> WeightSamples:
        """Draws as predictions take them: listed values once each, unless `n_samples` is given."""
        listed = self.distribution.listed
        if n_samples is None and listed is not None:
            draws = listed
        else:
            draws = self._draws(seed, _DRAWS if n_samples is None else n_samples)
        return WeightSamples(
            self.subset.partition,
            draws.trainable,
            self.subset.frozen,
            self.subset.mutable,
            devices=self.subset.devices,
            own=draws.statistics,
            owned=self.moving if draws.statistics else (),
        )

    def predict(self, inputs: Any, n_samples: int | None = None, seed: Any = 0) -> Any:
        """The predictive distribution: probabilities ``(B, C)``, or mean and variance ``(B, D)``.

        Parameters
        ----------
        inputs : array, tree of arrays or InputsLoader
            Axis 0 over the B points.
        n_samples : int, optional
            How many draws; by default all listed values, or 100.
        seed : int or jax.Array
            Of the draws.
        """
        quantity = quantity_of(self.likelihood)
        found = self._over_inputs(quantity, inputs, n_samples, seed)
        if quantity == "moments":
            mean, epistemic, noise = found
            return mean, epistemic + noise
        return np.exp(found) if quantity == "probabilities" else found

    def predict_regression(
        self, inputs: Any, n_samples: int | None = None, seed: Any = 0
    ) -> RegressionPrediction:
        """Mean and variance of numbers, in their parts.

        Raises
        ------
        InvalidArgumentError
            If the likelihood is one of classes.
        """
        likelihood = self.likelihood
        if isinstance(likelihood, Classification) or not isinstance(likelihood, Regression):
            raise InvalidArgumentError(
                f"predict_regression is for real targets and counts, and the likelihood is "
                f"{likelihood.name!r}; use predict"
            )
        mean, epistemic, noise = self._over_inputs("moments", inputs, n_samples, seed)
        gaussian = bool(getattr(likelihood, "gaussian_targets", False))
        return RegressionPrediction(mean, epistemic, noise, likelihood.name, gaussian)

    def log_prob(self, data_loader: Any, n_samples: int | None = None, seed: Any = 0) -> Array:
        """Log-density of each target under the mixture over draws, shape ``(N,)``.

        Where targets have positions, ``(N, T)``; where some do not count, one axis of those that
        do.
        """
        origin = origin_of(data_loader)
        subset = self.subset
        if origin is not None:
            subset, data_loader = (
                over_features(subset, origin, "data_loader"),
                as_plain(data_loader),
            )
        batches = data_batches(data_loader, one_shape=False, masks=True)
        first = next(batches)
        points = Points.of(self.likelihood, subset.output_shape, first, self.ignored_label)
        samples = self._at(points.positions, n_samples, seed)
        rows = map(points.checked, itertools.chain([first], batches))
        found = over_weights("density", self.likelihood, subset.network, samples, rows)
        return found if points.masked else in_positions(found, points.positions)

    def functional_covariance(
        self, inputs: Any, n_samples: int | None = None, seed: Any = 0
    ) -> Array:
        """Covariance of the outputs at each point under the draws, ``(B, C, C)``, float64."""
        network, samples, batches = self._asked(inputs, n_samples, seed)
        return in_positions(output_covariance(network, samples, batches), samples.positions)

    def functional_variance(
        self, inputs: Any, n_samples: int | None = None, seed: Any = 0
    ) -> Array:
        """The diagonals of `functional_covariance`, ``(B, C)``."""
        covariance = self.functional_covariance(inputs, n_samples, seed)
        return np.diagonal(covariance, axis1=-2, axis2=-1).copy()

    def to_jax(self, n_samples: int | None = None, seed: Any = 0) -> tuple[Tree, ServedDraws]:
        """Predictions as arrays and one pure JAX function, to be served.

        ``fn(arrays, params, inputs)`` can be jitted, sharded and exported. `params` is the full
        tree, as `merge` gives it, of which the frozen part is used; nothing is baked in. It gives
        probabilities ``(B, C)``, or for targets that are numbers their mean, the variance of their
        mean and the mean of their noise, each ``(B, D)``.

        Parameters
        ----------
        n_samples, seed
            As in `predict`.

        Returns
        -------
        arrays : dict of trees of jax.Array
            "trainable" draws, and their own "statistics", with a leading axis S.
        fn : ServedDraws
            The function. All S draws are evaluated at once.
        """
        samples = self.weight_samples(n_samples, seed)
        return to_jax(samples, self.subset.network, self.likelihood)

    def write_to(self, module: Any, tree: Tree | None = None) -> None:
        """Put parameters and running statistics into an NNX module, changed in place.

        `tree` is a trainable tree, such as one draw of `sample`; by default the mean.
        """
        write_to_module(module, self.merge(), tree)

    def save(self, path: Any, *, frozen: bool = True) -> None:
        """Write the posterior into a file, from which `hoarfrost.load_posterior` reads it.

        Parameters
        ----------
        path : str or path
            The file; one of this kind that is there is replaced when the new one is whole.
        frozen : bool
            Whether the frozen parameters are written, too; without them they are given to
            `hoarfrost.load_posterior`.

        Raises
        ------
        InvalidArgumentError
            If `path` is no place for it, or the method's posterior is one of Laplace.
        SavedFileError
            If it cannot be written; what was there stays.
        """
        from hoarfrost.methods.saving import save

        save(self, path, frozen)

    def _draws(self, seed: Any, n_samples: Any) -> Draws:
        return self.distribution.draw(
            check_key(seed, "seed"), check_count("n_samples", n_samples, 1)
        )

    def _at(self, positions: tuple[int, ...], n_samples: int | None, seed: Any) -> WeightSamples:
        return replace(self.weight_samples(n_samples, seed), positions=positions)

    def _asked(
        self, inputs: Any, n_samples: int | None, seed: Any
    ) -> tuple[Network, WeightSamples, Iterator[CheckedBatch]]:
        """The network that takes these inputs, the draws, and the batches."""
        subset, inputs = self.subset, features_alone(inputs)
        origin = origin_of(inputs)
        if origin is not None:
            subset, inputs = over_features(subset, origin, "inputs"), as_plain(inputs)
        batches = input_batches(inputs)
        first = next(batches, None)
        if first is None:
            raise DataError("inputs are empty: there is no point along axis 0 to predict for")
        positions = subset.output_shape(first.inputs)[1:-1]
        samples = self._at(positions, n_samples, seed)
        return subset.network, samples, itertools.chain([first], batches)

    def _over_inputs(self, quantity: Any, inputs: Any, n_samples: int | None, seed: Any) -> Array:
        network, samples, batches = self._asked(inputs, n_samples, seed)
        found = over_weights(quantity, self.likelihood, network, samples, batches)
        return in_positions(found, samples.positions, 1 if quantity == "moments" else 0)


def posterior_on(
    problem: Problem,
    method: str,
    distribution: Distribution,
    status: Mapping[str, Any],
    *,
    statistics: tuple[Any, ...] = (),
) -> WeightPosterior:
    """The posterior of a problem, with what was recorded.

    `statistics` are those that training moved and all draws share.
    """
    whole, moving = problem.whole, problem.kind.moving
    return WeightPosterior(
        method=method,
        subset=replace(whole, mutable=with_own(whole.mutable, moving, statistics)),
        likelihood=problem.likelihood,
        distribution=distribution,
        num_data=problem.num_data,
        ignored_label=problem.points.ignored_label,
        moving=moving,
        example=problem.example,
        status={**status, "features": problem.features},
    )
