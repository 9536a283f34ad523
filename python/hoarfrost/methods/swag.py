"""Stochastic weight averaging, Gaussian."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import numpy as np
import optax

from hoarfrost.checks import check_count
from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods.ascent import Climber, climb, repeated
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
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """A Gaussian with the mean and the spread of an optimiser's iterates about a trained network.

    The iterates at the ends of epochs are collected, each with the same weight: their mean, half
    of their variances on the diagonal, and half of the covariance of the last `rank` of them, each
    from the mean of those before and itself (as in the paper). What this Gaussian is depends on
    the optimiser: with plain gradients and a constant rate its covariance is about
    ``rate N / (2 B)`` times that of the gradients' noise, which is the posterior's for one rate at
    most.

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
    check_swag(rank, n_epochs, burnin_epochs)
    problem = problem_of(model, params, data_loader, **options)
    return swag_on(
        problem,
        rank=rank,
        optimizer=optimizer,
        n_epochs=n_epochs,
        burnin_epochs=burnin_epochs,
        seed=seed,
    )


def check_swag(rank: Any, n_epochs: Any, burnin_epochs: Any = 0) -> None:
    """Raise `InvalidArgumentError` unless there are more iterates than the rank."""
    rank = check_count("rank", rank, 2)
    collected = check_count("n_epochs", n_epochs, 1) - check_count(
        "burnin_epochs", burnin_epochs, 0
    )
    if collected <= rank:
        raise InvalidArgumentError(
            f"n_epochs is {n_epochs}, which collects {max(collected, 0)} iterates after "
            f"{burnin_epochs} of burn-in, and rank is {rank}; give more than "
            f"{rank + burnin_epochs} epochs, or a smaller rank"
        )


def swag_on(
    problem: Problem,
    *,
    rank: int = 5,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    burnin_epochs: int = 0,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_swag` for a problem that exists already."""
    check_swag(rank, n_epochs, burnin_epochs)
    moments = Moments(rank, burnin_epochs)
    trained = climb(
        problem,
        repeated(problem, 1),
        optimizer=optimizer,
        n_epochs=n_epochs,
        seed=seed,
        description="SWAG",
        monitoring=monitoring,
        after_epoch=moments.add,
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

    def __init__(self, rank: int, burnin: int = 0) -> None:
        self.rank, self.burnin = rank, burnin
        self.count = 0
        self.mean: Tree = None
        self.squares: Tree = None
        self.deviations: list[Tree] = []

    def add(self, epoch: int, state: Climber) -> None:
        """Collect the iterate after an epoch."""
        if epoch <= self.burnin:
            return
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
        share = 1 / np.sqrt(2 * (len(self.deviations) - 1))
        std = jax.tree.map(lambda s: np.sqrt(np.maximum(s, 0) / self.count / 2), self.squares)
        deviations = jax.tree.map(lambda *each: share * np.stack(each), *self.deviations)

        def as_given(tree: Tree) -> Tree:
            return jax.tree.map(lambda leaf, own: leaf.astype(own.dtype), tree, like)

        return GaussianDraws(as_given(self.mean), as_given(std), as_given(deviations))


def _wide(leaf: jax.Array) -> Array:
    """The only member's leaf, at least in float32, on the host."""
    return np.array(at_least_float32(leaf[0]))
