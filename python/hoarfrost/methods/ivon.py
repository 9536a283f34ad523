"""Improved variational online Newton."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import (
    check_counts,
    check_key,
    check_number,
    check_probability,
    seed_from_key,
    shown,
)
from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods.ascent import repeated
from hoarfrost.methods.batches import batches_of
from hoarfrost.methods.draws import Draws, GaussianDraws, normal_like
from hoarfrost.methods.epochs import UNWATCHED, Monitoring, train_epochs
from hoarfrost.methods.loop import Loop
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem, ProblemOptions, problem_of
from hoarfrost.methods.schedules import StepSchedule, cosine_schedule, step_sizes
from hoarfrost.methods.target import BatchTarget, GaussianPrior
from hoarfrost.types import Tree, pytree


def fit_ivon(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    learning_rate: StepSchedule | float = 0.1,
    hess_init: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99999,
    mc_samples: int = 1,
    n_epochs: int = 100,
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """The mean-field Gaussian of `fit_advi`, by steps of a natural gradient at the cost of Adam's.

    With N data, prior precision ``N delta`` and prior mean mu, draws ``theta = m + s e`` where
    ``s = 1 / sqrt(N (h + delta))``, g the gradient of the mean loss at theta, and ``k = g e / s``:

        h <- b2 h + (1 - b2) k + (1 - b2)^2 (h - k)^2 / (2 (h + delta))
        v <- b1 v + (1 - b1) g
        m <- m - rate (v / (1 - b1^t) + delta (m - mu)) / (h + delta)

    It ends where ADVI does, at variances ``1 / A_ii`` for a Gaussian posterior.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. The mean starts from `params`.
    learning_rate : float or callable
        A number, from which the rate falls to 0 along half a cosine, or a function of the number of
        the step.
    hess_init : float
        h at the start, a curvature of the mean loss.
    beta1, beta2 : float
        How much of v and h stays at each step. h settles in about ``1 / (1 - beta2)`` steps.
    mc_samples : int
        Draws for each gradient.
    n_epochs : int
        Passes over the data.
    seed : int or jax.Array
        Of batches and draws.

    Returns
    -------
    WeightPosterior
        A Gaussian; "loss" in its status is the negative log joint density at the draws.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.

    References
    ----------
    Shen et al. (2024), Variational learning is effective for large deep networks.
    """
    check_ivon(learning_rate, hess_init, beta1, beta2, mc_samples, n_epochs)
    key = check_key(seed, "seed")
    problem = problem_of(model, params, data_loader, **options)
    return ivon_on(
        problem,
        learning_rate=learning_rate,
        hess_init=hess_init,
        beta1=beta1,
        beta2=beta2,
        mc_samples=mc_samples,
        n_epochs=n_epochs,
        seed=key,
    )


def check_ivon(
    learning_rate: Any, hess_init: Any, beta1: Any, beta2: Any, mc_samples: Any, n_epochs: Any
) -> None:
    """Raise `InvalidArgumentError` unless these are numbers that `fit_ivon` takes."""
    if not callable(learning_rate):
        check_number("learning_rate", learning_rate, positive=True)
    check_number("hess_init", hess_init, positive=True)
    check_probability("beta1", beta1)
    check_probability("beta2", beta2)
    check_counts(mc_samples=mc_samples, n_epochs=n_epochs)


def ivon_on(
    problem: Problem,
    *,
    learning_rate: StepSchedule | float = 0.1,
    hess_init: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99999,
    mc_samples: int = 1,
    n_epochs: int = 100,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_ivon` for a problem that exists already."""
    check_ivon(learning_rate, hess_init, beta1, beta2, mc_samples, n_epochs)
    prior = problem.given.prior
    if not isinstance(prior, GaussianPrior):
        raise InvalidArgumentError(
            f"the prior is {shown(prior)}, and IVON's steps hold a Gaussian one; give a Gaussian "
            "prior, or use ADVI"
        )
    numbers = Numbers(
        float(beta1),
        float(beta2),
        jax.tree.map(lambda own: own / problem.num_data, prior.precision),
        prior.mean,
    )
    key = check_key(seed, "seed")
    batches = batches_of(
        problem.loader,
        problem.points,
        pads=problem.pads,
        num_chains=1,
        seed=seed_from_key(key),
    )
    steps = int(n_epochs) * batches.per_epoch
    if not callable(learning_rate):
        learning_rate = cosine_schedule(learning_rate, steps)
    rates = step_sizes("learning_rate", learning_rate, steps)
    step = IvonStep(int(mc_samples))
    network, kind, given = problem.subset.network, problem.kind, problem.given
    loop = Loop(network, kind, given, batches, step, key, 1)
    begin = repeated(problem, 1)
    # Half precision would lose what a step adds to a running mean.
    wide = jax.tree.map(at_least_float32, begin.trainable)
    trained = train_epochs(
        problem,
        loop,
        Newton(
            begin.trainable,
            jax.tree.map(jnp.zeros_like, wide),
            jax.tree.map(lambda leaf: jnp.full_like(leaf, float(hess_init)), wide),
            begin.statistics,
        ),
        n_epochs,
        weights_of=_at_mean,
        numbers=numbers,
        each=Turn(np.asarray(rates), np.arange(1.0, steps + 1)),
        monitoring=monitoring,
        description="IVON",
    )
    state: Newton = jax.tree.map(lambda leaf: leaf[0], jax.device_get(trained.state))
    std = jax.tree.map(
        lambda h, delta: (1 / np.sqrt(problem.num_data * (h + delta))).astype(h.dtype),
        state.curvature,
        jax.device_get(numbers.delta),
    )
    return posterior_on(
        problem,
        "ivon",
        GaussianDraws(state.mean, std),
        trained.status,
        statistics=state.statistics,
    )


@pytree
@dataclass(frozen=True)
class Newton:
    """The state: mean, running gradient and running curvature of the mean loss."""

    mean: Tree
    gradient: Tree
    curvature: Tree
    statistics: tuple[jax.Array, ...]


@pytree
@dataclass(frozen=True)
class Numbers:
    """What all steps take."""

    beta1: Any
    beta2: Any
    delta: Tree
    centre: Tree


@pytree
@dataclass(frozen=True)
class Turn:
    """What one step takes: its learning rate, and its number from 1."""

    rate: Any
    number: Any


@dataclass(frozen=True)
class IvonStep:
    """One step, with so many draws."""

    n_samples: int

    def __call__(
        self, target: BatchTarget, state: Newton, key: jax.Array, turn: Turn, numbers: Numbers
    ) -> tuple[Newton, jax.Array]:
        """The state one step on, and the mean log joint density of its draws."""
        size = target.given.num_data
        std = jax.tree.map(
            lambda h, delta: 1 / jnp.sqrt(size * (h + delta)), state.curvature, numbers.delta
        )

        def at_draw(key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...], Tree, Tree]:
            draw_key, network_key = jax.random.split(key)
            noise = normal_like(std, draw_key)
            theta = jax.tree.map(
                lambda m, s, e: (m.astype(s.dtype) + s * e).astype(m.dtype), state.mean, std, noise
            )

            def loss(theta: Tree) -> tuple[jax.Array, tuple[jax.Array, ...]]:
                outputs, moved = target.outputs(theta, state.statistics, network_key)
                return -target.log_likelihood(outputs) / size, moved

            (found, moved), gradient = jax.value_and_grad(loss, has_aux=True)(theta)
            curvature = jax.tree.map(
                lambda g, e, s: g.astype(e.dtype) * e / s, gradient, noise, std
            )
            return target.log_prior(theta) - size * found, moved, gradient, curvature

        found, moved, gradients, curvatures = jax.vmap(at_draw)(
            jax.random.split(key, self.n_samples)
        )
        own = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), (gradients, curvatures))
        keep, slow = numbers.beta1, 1 - numbers.beta2

        def curved(h: jax.Array, k: jax.Array, delta: jax.Array) -> jax.Array:
            # The last term is what keeps h + delta above 0.
            return (h + slow * (k - h) + (slow * (h - k)) ** 2 / (2 * (h + delta))).astype(h.dtype)

        curvature = jax.tree.map(curved, state.curvature, own[1], numbers.delta)
        gradient = jax.tree.map(
            lambda v, g: (keep * v + (1 - keep) * g.astype(v.dtype)).astype(v.dtype),
            state.gradient,
            own[0],
        )
        share = turn.rate / (1 - keep**turn.number)

        def moved_to(
            m: jax.Array, v: jax.Array, h: jax.Array, delta: jax.Array, mu: jax.Array
        ) -> jax.Array:
            wide = m.astype(h.dtype)
            pull = turn.rate * delta * (wide - mu)
            return (wide - (share * v + pull) / (h + delta)).astype(m.dtype)

        mean = jax.tree.map(
            moved_to, state.mean, gradient, curvature, numbers.delta, numbers.centre
        )
        statistics = jax.tree.map(lambda leaf: leaf[0], moved)
        return Newton(mean, gradient, curvature, statistics), jnp.mean(found)


def _at_mean(state: Newton) -> Draws:
    return Draws(state.mean, state.statistics)
