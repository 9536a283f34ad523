"""Stochastic weight averaging, Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import numpy as np
import optax

from hoarfrost.checks import check_count, check_counts, check_key
from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods.ascent import Climber, check_climb, climb, repeated
from hoarfrost.methods.draws import Distribution, GaussianDraws
from hoarfrost.methods.epochs import UNWATCHED, Monitoring
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem, ProblemOptions, problem_of
from hoarfrost.methods.restate import Restated, statistics_under
from hoarfrost.types import Array, Tree


def fit_swag(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    rank: int = 5,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    burnin_epochs: int = 0,
    collect_every: int | None = None,
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """A Gaussian with the mean and the spread of an optimiser's iterates about a trained network.

    Iterates are collected at the ends of epochs, each with the same weight: their mean, half of
    their variances on the diagonal, and half of the covariance of the last `rank` of them, each
    from the mean of those before and itself (as in the paper). What this Gaussian is depends on
    the optimiser. With plain gradients at a small constant rate e and batches drawn independently,
    the spread S of all iterates solves ``A S + S A = e G``, A the precision of the posterior and G
    the covariance of gradients (Mandt, Hoffman and Blei, 2017): about ``e N / (2 B)`` in every
    direction, whatever the data leave open. Data in arrays are gone over in whole orders, every
    point once a pass: where the rate is so small that a pass hardly forgets where it began, the
    noise of its batches nearly cancels at its end, and the spread is smaller still (on a linear
    model 1 % of that where e times curvature times the steps of a pass is 0.25, all of it at 2.5).

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. `params` are the MAP, or near it.
    rank : int
        How many deviations are kept, at least 2.
    optimizer : optax.GradientTransformation, optional
        With a constant learning rate; by default ``optax.adam(1e-3)``.
    n_epochs : int
        Passes over the data; more than `rank` after those of `burnin_epochs`.
    burnin_epochs : int
        Epochs whose iterates are not collected.
    collect_every : int, optional
        Steps from one iterate to the next; by default one is collected at the end of each epoch.
    seed : int or jax.Array
        Of batches and dropout.

    Returns
    -------
    WeightPosterior
        A Gaussian. Where layers that are trained have statistics (BatchNorm), each draw's are those
        of the data under it: a pass over `data_loader` for every draw.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.

    References
    ----------
    Maddox, Garipov, Izmailov, Vetrov and Wilson (2019), A simple baseline for Bayesian uncertainty
    in deep learning.
    """
    check_swag(rank, n_epochs, burnin_epochs, collect_every)
    check_climb(optimizer, n_epochs)
    key = check_key(seed, "seed")
    problem = problem_of(model, params, data_loader, **options)
    return swag_on(
        problem,
        rank=rank,
        optimizer=optimizer,
        n_epochs=n_epochs,
        burnin_epochs=burnin_epochs,
        collect_every=collect_every,
        seed=key,
    )


def check_swag(rank: Any, n_epochs: Any, burnin_epochs: Any = 0, collect_every: Any = None) -> None:
    """Raise `InvalidArgumentError` unless these are counts, and give more iterates than the rank.

    How many `collect_every` gives is known when the data are.
    """
    check_count("rank", rank, 2)
    check_counts(n_epochs=n_epochs)
    check_count("burnin_epochs", burnin_epochs, 0)
    if collect_every is None:
        _check_enough(rank, n_epochs - burnin_epochs, n_epochs, burnin_epochs)
    else:
        check_count("collect_every", collect_every, 1)


def _check_enough(rank: int, collected: int, n_epochs: int, burnin_epochs: int) -> None:
    if collected <= rank:
        raise InvalidArgumentError(
            f"n_epochs is {n_epochs}, which collects {max(collected, 0)} iterates after "
            f"{burnin_epochs} of burn-in, and rank is {rank}, which needs more than {rank}; give "
            "more epochs, or a smaller rank"
        )


def swag_on(
    problem: Problem,
    *,
    rank: int = 5,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    burnin_epochs: int = 0,
    collect_every: int | None = None,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_swag` for a problem that exists already."""
    check_swag(rank, n_epochs, burnin_epochs, collect_every)
    moments = Moments(rank, burnin_epochs, collect_every)
    trained = climb(
        problem,
        repeated(problem, 1),
        optimizer=optimizer,
        n_epochs=n_epochs,
        seed=seed,
        description="SWAG",
        monitoring=monitoring,
        collector=moments,
    )
    if moments.count <= rank:
        raise InvalidArgumentError(
            f"early_stopping ended SWAG after {len(trained.status['loss'])} epochs, of which "
            f"{moments.count} iterates were collected, and rank is {rank}; give more patience, "
            "fewer epochs of burn-in, or a smaller rank"
        )
    gaussian = moments.gaussian(problem.whole.trainable)
    status = {**trained.status, "collected": moments.count}
    moving = problem.kind.moving
    if not any(moving):
        return posterior_on(problem, "swag", gaussian, status)
    mean = jax.tree.map(lambda leaf: leaf[None], gaussian.mean)
    own = statistics_under(problem.whole, moving, mean, problem.loader)
    shared = tuple(leaf[0] for leaf in own)
    restated: Distribution = Restated(gaussian, problem.whole, moving, problem.loader)
    return posterior_on(problem, "swag", restated, status, statistics=shared)


class Moments:
    """Mean, variances and last deviations of iterates, by Welford's updates."""

    def __init__(self, rank: int, burnin: int = 0, every: int | None = None) -> None:
        self.rank, self.burnin, self.every = rank, burnin, every
        self.count = 0
        self.mean: Tree = None
        self.squares: Tree = None
        self.deviations: list[Tree] = []

    def stops(self, per_epoch: int, n_epochs: int) -> Sequence[int]:
        """After which steps an iterate is collected; raises unless they are more than the rank."""
        every = per_epoch if self.every is None else self.every
        begin = per_epoch * self.burnin
        stops = range(begin + every, per_epoch * n_epochs + 1, every)
        _check_enough(self.rank, len(stops), n_epochs, self.burnin)
        return stops

    def add(self, state: Climber) -> None:
        """Collect the iterate of a state."""
        iterate = jax.tree.map(_wide, state.trainable)
        self.count += 1
        if self.mean is None:
            self.mean = iterate
            self.squares = jax.tree.map(np.zeros_like, iterate)
        before = self.mean
        self.mean = jax.tree.map(lambda m, x: m + (x - m) / self.count, before, iterate)
        self.squares = jax.tree.map(
            lambda s, x, old, new: s + (x - old) * (x - new),
            self.squares,
            iterate,
            before,
            self.mean,
        )
        self.deviations.append(jax.tree.map(np.subtract, iterate, self.mean))
        del self.deviations[: -self.rank]

    def gaussian(self, like: Tree) -> GaussianDraws:
        """Half of the variances, and half of the deviations' covariance."""
        share = 1 / math.sqrt(2 * (len(self.deviations) - 1))
        std = jax.tree.map(lambda s: np.sqrt(np.maximum(s, 0) / self.count / 2), self.squares)
        deviations = jax.tree.map(lambda *each: share * np.stack(each), *self.deviations)

        mean = jax.tree.map(lambda leaf, own: leaf.astype(own.dtype), self.mean, like)
        return GaussianDraws(mean, std, deviations)


def _wide(leaf: jax.Array) -> Array:
    """The only member's leaf, at least in float32, on the host."""
    return np.array(at_least_float32(leaf[0]))
