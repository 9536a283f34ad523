"""What every method works on: a subset of a network's parameters, its data, and a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_switch
from hoarfrost.data import DataLoader
from hoarfrost.data.accepted import as_data_loader
from hoarfrost.data.checked import data_batches
from hoarfrost.data.features import origin_of
from hoarfrost.devices import choose_devices
from hoarfrost.freezing import Selector, Subset
from hoarfrost.laplace.planning import subset_of
from hoarfrost.likelihood import Likelihood, resolve
from hoarfrost.likelihood.points import Points, check_ignored_label
from hoarfrost.methods.kept import CacheFeatures, run_once
from hoarfrost.methods.target import GaussianPrior, Given, Kind
from hoarfrost.network import Call, check_points_apart
from hoarfrost.prior import resolve_prior_mean, resolve_prior_precision
from hoarfrost.training.first_batch import check_finite_params, check_first_batch, count_points
from hoarfrost.types import Tree


class ProblemOptions(TypedDict, total=False):
    """Keyword arguments that every method has; see `problem_of`."""

    likelihood: str | Likelihood
    trainable: Selector
    prior_precision: Any
    prior_mean: Any
    call: Call | None
    ignored_label: int | None
    devices: int | Sequence[jax.Device] | None
    cache_features: CacheFeatures
    progress: bool


@dataclass(frozen=True, eq=False)
class Problem:
    """A subset with data, likelihood and prior.

    Attributes
    ----------
    whole : Subset
        The network, by which predictions go.
    subset : Subset
        What steps evaluate: the same, or what comes after the frozen part alone.
    data : DataLoader
        Data of `whole`, as they were given.
    loader : DataLoader
        Data of `subset`.
    points : Points
        What of a batch is a data point.
    num_data : int
        How many data points there are.
    kind, given : Kind, Given
        The target density.
    features : str
        Whether the frozen part runs once, and why, in words.
    progress : bool
        Whether progress bars are shown.
    """

    whole: Subset
    subset: Subset
    data: DataLoader
    loader: DataLoader
    points: Points
    num_data: int
    kind: Kind
    given: Given
    features: str
    progress: bool

    @property
    def likelihood(self) -> Likelihood:
        """Of the targets."""
        return self.given.likelihood

    @property
    def example(self) -> Tree:
        """Shapes and dtypes of one example of the inputs of the whole network."""
        origin = origin_of(self.data)
        inputs = (
            next(data_batches(self.data, masks=True)).inputs if origin is None else origin.point
        )
        form: Any = jax.ShapeDtypeStruct
        return jax.tree.map(lambda leaf: form(leaf.shape[1:], leaf.dtype), inputs)

    @property
    def pads(self) -> bool:
        """Whether a batch may be padded: not where padding would enter statistics."""
        return not self.kind.trains or not jax.tree.leaves(self.given.mutable)


def problem_of(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    likelihood: str | Likelihood = "categorical",
    trainable: Selector = None,
    prior_precision: Any = 1.0,
    prior_mean: Any = 0.0,
    call: Call | None = None,
    ignored_label: int | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    cache_features: CacheFeatures = "auto",
    progress: bool = True,
) -> Problem:
    """What the arguments that all methods share come to.

    Parameters
    ----------
    model, params, data_loader, likelihood, trainable, prior_precision, prior_mean, call,
    ignored_label
        As in `hoarfrost.fit_laplace`. The prior is over the trainable parameters.
    devices : int or sequence of jax.Device, optional
        Where the network runs, as in `hoarfrost.fit_laplace`.
    cache_features : bool or "auto"
        Whether the frozen part of the network runs once and the method goes over its outputs:
        where it can and they fit in memory ("auto"), always (True, else an error that says why it
        cannot), or never (False). The numbers are the same to rounding.
    progress : bool
        Whether progress bars are shown.

    Notes
    -----
    The network runs in training mode where something in it then draws random numbers (dropout) or
    moves statistics of layers that are trained (BatchNorm); else in evaluation mode, in which
    frozen statistics are what they were.
    """
    check_switch("progress", progress)
    likelihood = resolve(likelihood)
    ignored_label = check_ignored_label(ignored_label, likelihood)
    loader = as_data_loader(data_loader, "data_loader")
    chosen = choose_devices(devices)
    subset = subset_of(
        model,
        params,
        trainable,
        lambda: next(data_batches(loader, masks=True)),
        call,
        chosen,
        origin_of(loader),
    )
    prior = gaussian_prior_of(prior_precision, prior_mean, subset)
    return problem_with(
        subset,
        loader,
        likelihood=likelihood,
        prior=prior,
        ignored_label=ignored_label,
        cache_features=cache_features,
        progress=progress,
    )


def problem_with(
    subset: Subset,
    loader: DataLoader,
    *,
    likelihood: Likelihood,
    prior: Any,
    ignored_label: int | None,
    cache_features: CacheFeatures,
    progress: bool,
) -> Problem:
    """`problem_of` for a subset that exists already."""
    check_finite_params(subset.params)
    subset = replace(subset, params=jax.tree.map(jnp.asarray, subset.params)).placed()
    kept = run_once(subset, loader, cache_features, progress=progress)
    points = check_first_batch(kept.subset, likelihood, kept.loader, "data_loader", ignored_label)
    if kept.subset.network is subset.network:
        first = next(data_batches(loader, masks=True))
        check_points_apart(subset.network, subset.params, subset.mutable, first.inputs)
    num_data = count_points(points, kept.loader, "data_loader")
    moving = subset.network.moving(subset.partition.by_path, subset.mutable)
    trains = kept.trains
    kind = Kind(subset.partition, trains, moving if trains else (False,) * len(moving))
    given = Given(
        frozen=subset.frozen,
        mutable=subset.mutable,
        prior=prior,
        likelihood=likelihood,
        num_data=np.float32(num_data),
    )
    return Problem(
        whole=subset,
        subset=kept.subset,
        data=loader,
        loader=kept.loader,
        points=points,
        num_data=num_data,
        kind=kind,
        given=subset.devices.whole(given),
        features=kept.said,
        progress=progress,
    )


def gaussian_prior_of(prior_precision: Any, prior_mean: Any, subset: Subset) -> GaussianPrior:
    """A Gaussian over the trainable parameters, as users give it.

    Raises
    ------
    InvalidArgumentError, ShapeError
        If either is neither a number, nor a tree of numbers or arrays like the trainable one.
    """
    precision = resolve_prior_precision(prior_precision, subset.trainable)
    mean = resolve_prior_mean(prior_mean, subset.trainable)
    return GaussianPrior(
        mean=_leaves_like(prior_mean, mean, subset),
        precision=_leaves_like(prior_precision, precision.vector, subset),
    )


def _leaves_like(value: Any, vector: np.ndarray, subset: Subset) -> Tree:
    """A number a leaf, where one was given for all; else arrays of the leaves' shapes."""
    if np.ndim(value) == 0 and jax.tree_util.all_leaves([value]):
        return jax.tree.map(lambda _: np.float32(value), subset.trainable)
    shaped = subset.shaped(vector[None])
    return jax.tree.map(lambda leaf: leaf[0], shaped)
