"""Spectral-normalised neural Gaussian processes: random features are a last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import jax
import numpy as np
import optax

from hoarfrost.checks import (
    check_count,
    check_key,
    check_number,
    check_switch,
    shown,
)
from hoarfrost.data.accepted import as_data_loader
from hoarfrost.data.checked import data_batches
from hoarfrost.devices import choose_devices
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.freezing import Selector, Subset, make_partition
from hoarfrost.laplace import fit_network
from hoarfrost.likelihood import Likelihood, resolve
from hoarfrost.likelihood.points import check_ignored_label
from hoarfrost.methods.ascent import check_climb, climb, repeated, weights_of
from hoarfrost.methods.epochs import UNWATCHED, Monitoring
from hoarfrost.methods.kept import CacheFeatures
from hoarfrost.methods.laplace_draws import LaplaceDraws
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem, ProblemOptions, gaussian_prior_of, problem_with
from hoarfrost.network import Call, as_network, param_kinds
from hoarfrost.network.random_features import (
    GP,
    KERNEL,
    MODEL,
    RandomFeatureNetwork,
    random_features,
)
from hoarfrost.predictive.weight_samples import with_own
from hoarfrost.types import Path, Tree


@dataclass(frozen=True)
class SNGP:
    """Settings of the random features.

    Attributes
    ----------
    output_dim, gp_hidden_features : int
        C, the number of outputs, and m, that of random features.
    normalize_input : bool
        Whether each point's hidden features are brought to mean 0 and variance 1.
    ridge_penalty : float
        Prior precision of the output weights.
    mean_field_factor : float
        What the covariance of the output weights is multiplied by: 1 for their posterior, 0 for
        none.
    """

    output_dim: int
    gp_hidden_features: int = 1024
    normalize_input: bool = False
    ridge_penalty: float = 1.0
    momentum: None = None
    mean_field_factor: float = 1.0

    def __post_init__(self) -> None:
        check_count("output_dim", self.output_dim, 1)
        check_count("gp_hidden_features", self.gp_hidden_features, 1)
        check_switch("normalize_input", self.normalize_input)
        check_number("ridge_penalty", self.ridge_penalty, positive=True)
        check_number("mean_field_factor", self.mean_field_factor, positive=False)
        if self.momentum is not None:
            raise InvalidArgumentError(
                f"momentum is {shown(self.momentum)}, which smooths a precision that is gathered "
                "in training; here one pass after training gives it exactly: leave it out"
            )


def fit_sngp(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    output_dim: int,
    gp_hidden_features: int = 1024,
    normalize_input: bool = False,
    ridge_penalty: float = 1.0,
    momentum: None = None,
    mean_field_factor: float = 1.0,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """A network whose last layer is a Gaussian process, by random features, with its posterior.

    The network and the output weights are trained to their MAP; then the posterior of the output
    weights is the exact Laplace posterior of a last layer, its precision assembled by the core.
    Distances between inputs must survive the network: train one with spectral normalisation
    (`hoarfrost.model.utils.spectral_norm.WithSpectralNorm`) and residual layers.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`, but that the model gives hidden features
        ``(B, D)``, and `trainable` says which of its own parameters are trained beside the output
        weights; a function may select none.
    output_dim : int
        C, the number of outputs.
    gp_hidden_features : int
        m, the number of random features.
    normalize_input : bool
        Whether each point's hidden features are brought to mean 0 and variance 1.
    ridge_penalty : float
        Prior precision of the output weights.
    momentum : None
        Fortuna's, of a precision gathered in training; here one pass gives it exactly.
    mean_field_factor : float
        What the covariance of the output weights is multiplied by in draws; 1 for the posterior.
    optimizer : optax.GradientTransformation, optional
        ``optax.adam(1e-3)`` by default. The same object means the same compiled program.
    n_epochs : int
        Passes over the data.
    seed : int or jax.Array
        Of random features, batches and dropout.

    Returns
    -------
    WeightPosterior
        Over the output weights, at the network that was trained; ``distribution.laplace`` is the
        `hoarfrost.Laplace`.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.
    MemoryLimitError
        If the posterior of the output weights does not fit.

    References
    ----------
    Liu, Lin, Padhy, Tran, Bedrax-Weiss and Lakshminarayanan (2020), Simple and principled
    uncertainty estimation with deterministic deep learning via distance awareness.
    """
    settings = SNGP(
        output_dim,
        gp_hidden_features,
        normalize_input,
        ridge_penalty,
        momentum,
        mean_field_factor,
    )
    check_climb(optimizer, n_epochs)
    key = check_key(seed, "seed")
    problem = _problem_of(model, params, data_loader, settings, key, **options)
    return sngp_on(problem, settings, optimizer=optimizer, n_epochs=n_epochs, seed=seed)


def _problem_of(
    model: Any,
    params: Tree,
    data_loader: Any,
    settings: SNGP,
    key: jax.Array,
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
    """`problem_of` for a model that gives hidden features."""
    likelihood = resolve(likelihood)
    loader = as_data_loader(data_loader, "data_loader")
    network, tree, mutable = as_network(model, params, call)
    own = make_partition(tree, trainable, kinds=param_kinds(network), may_be_empty=True)
    subset = with_random_features(
        Subset(network, own, tree, mutable, choose_devices(devices)),
        settings,
        next(data_batches(loader, masks=True)).inputs,
        key,
    )
    precision = _over_both(subset, prior_precision, float(settings.ridge_penalty))
    return problem_with(
        subset,
        loader,
        likelihood=likelihood,
        prior=gaussian_prior_of(precision, _over_both(subset, prior_mean, 0.0), subset),
        ignored_label=check_ignored_label(ignored_label, likelihood),
        cache_features=cache_features,
        progress=progress,
    )


def features_behind(shape: tuple[int, ...], settings: SNGP, key: jax.Array) -> Tree:
    """Parameters of random features behind a network whose outputs have this shape.

    Raises
    ------
    ShapeError
        If that is not ``(B, D)``.
    """
    if len(shape) != 2:
        raise ShapeError(
            f"the model's outputs have shape {shape}; for random features it must give hidden "
            "features (B, D)"
        )
    drawn = jax.random.fold_in(key, np.uint32(2**32 - 3))
    return random_features(shape[1], settings.gp_hidden_features, settings.output_dim, drawn)


def with_random_features(subset: Subset, settings: SNGP, inputs: Tree, key: jax.Array) -> Subset:
    """A network that gives hidden features, with random features behind it.

    What was trainable is so, and the output weights are.

    Raises
    ------
    ShapeError
        If its outputs for `inputs` are not ``(B, D)``.
    """
    gp = features_behind(subset.output_shape(inputs), settings, key)
    network = RandomFeatureNetwork(subset.network, bool(settings.normalize_input))
    params = {MODEL: subset.params, GP: gp}
    inner = subset.partition.by_path

    def chosen(path: Path, value: Any) -> bool:
        return inner[path[1:]] if path[0] == MODEL else path == (GP, KERNEL)

    partition = make_partition(params, chosen)
    return Subset(network, partition, params, subset.mutable, subset.devices)


def sngp_on(
    problem: Problem,
    settings: SNGP,
    *,
    kernel: Path = (GP, KERNEL),
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_sngp` for a problem whose network has random features, with output weights `kernel`."""
    trained = climb(
        problem,
        repeated(problem, 1),
        optimizer=optimizer,
        n_epochs=n_epochs,
        seed=seed,
        description="SNGP",
        monitoring=monitoring,
    )
    weights = weights_of(trained.state)
    own, statistics = jax.tree.map(lambda leaf: leaf[0], (weights.trainable, weights.statistics))
    whole = problem.whole
    params = whole.partition.merge(own, whole.frozen)
    mutable = with_own(whole.mutable, problem.kind.moving, statistics)
    last = make_partition(params, lambda path, _: path == kernel)
    at_map = Subset(whole.network, last, params, mutable, whole.devices)
    laplace = fit_network(
        at_map,
        problem.data,
        likelihood=problem.likelihood,
        hessian_structure="auto",
        prior_precision=float(settings.ridge_penalty),
        progress=problem.progress,
        ignored_label=problem.points.ignored_label,
    )
    distribution = LaplaceDraws(laplace, float(settings.mean_field_factor))
    return posterior_on(
        replace(problem, whole=at_map, kind=replace(problem.kind, partition=last)),
        "sngp",
        distribution,
        trained.status,
    )


def _over_both(subset: Subset, inner: Any, kernel: float) -> Tree:
    """A value of the prior for what is trainable of the model, and one for the output weights."""
    own = dict(subset.trainable)
    if MODEL in own:
        number = np.ndim(inner) == 0 and jax.tree_util.all_leaves([inner])
        own[MODEL] = jax.tree.map(lambda _: inner, own[MODEL]) if number else inner
    return own | {GP: {KERNEL: kernel}}
