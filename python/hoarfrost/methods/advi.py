"""Mean-field variational inference by gradients."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import optax

from hoarfrost.checks import (
    check_count,
    check_key,
    check_number,
    is_number,
    plain,
    seed_from_key,
    shown,
)
from hoarfrost.dtypes import at_least_float32, wide_dtype
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.methods.ascent import check_climb, repeated
from hoarfrost.methods.batches import batches_of
from hoarfrost.methods.draws import Draws, GaussianDraws, normal_like
from hoarfrost.methods.epochs import UNWATCHED, Monitoring, train_epochs
from hoarfrost.methods.loop import Loop
from hoarfrost.methods.posterior import WeightPosterior, posterior_on
from hoarfrost.methods.problem import Problem, ProblemOptions, problem_of
from hoarfrost.methods.target import BatchTarget, GaussianPrior
from hoarfrost.network.dense import INPUTS, DenseNetwork
from hoarfrost.types import Tree, pytree


def fit_advi(
    model: Any,
    params: Tree,
    data_loader: Any,
    *,
    std_init_params: float = 0.1,
    log_std_base: float = -2.3,
    n_loss_samples: int = 3,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    **options: Unpack[ProblemOptions],
) -> WeightPosterior:
    """The Gaussian with a diagonal covariance that is nearest to the posterior by its evidence.

    Maximises ``E_q log p(D | theta) - KL(q || p)`` over means and standard deviations. Of a
    Gaussian posterior it has the mean, and the variances ``1 / A_ii`` of its precision A: each
    parameter's given all others, too small wherever they are correlated.

    Parameters
    ----------
    model, params, data_loader, **options
        As in `hoarfrost.methods.problem.problem_of`. The means start from `params`.
    std_init_params : float
        Spread of the logarithms of the standard deviations at the start.
    log_std_base : float
        Their mean at the start.
    n_loss_samples : int
        Draws for each gradient: of outputs where the trainable parameters are a last layer (the
        local reparameterisation, which draws for each point by itself), else of parameters. So the
        draws, and no more, are others with `cache_features` than without.
    optimizer : optax.GradientTransformation, optional
        ``optax.adam(1e-2)`` by default. The same object means the same compiled program.
    n_epochs : int
        Passes over the data.
    seed : int or jax.Array
        Of batches and draws.

    Returns
    -------
    WeightPosterior
        A Gaussian; "loss" in its status is the negative evidence bound.

    Raises
    ------
    InvalidArgumentError, SelectionError, ShapeError, NonFiniteError, DataError
        If an argument or the data cannot be used; if training leaves the finite numbers.

    References
    ----------
    Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), Automatic differentiation variational
    inference. Kingma, Salimans and Welling (2015), Variational dropout and the local
    reparameterization trick.
    """
    check_advi(std_init_params, log_std_base, n_loss_samples)
    check_climb(optimizer, n_epochs)
    key = check_key(seed, "seed")
    problem = problem_of(model, params, data_loader, **options)
    return advi_on(
        problem,
        std_init_params=std_init_params,
        log_std_base=log_std_base,
        n_loss_samples=n_loss_samples,
        optimizer=optimizer,
        n_epochs=n_epochs,
        seed=key,
    )


def check_advi(std_init_params: Any, log_std_base: Any, n_loss_samples: Any) -> None:
    """Raise `InvalidArgumentError` unless these are numbers that `fit_advi` takes."""
    check_number("std_init_params", std_init_params, positive=False)
    if not is_number(plain(log_std_base)):
        raise InvalidArgumentError(f"log_std_base is {shown(log_std_base)}; give a finite number")
    check_count("n_loss_samples", n_loss_samples, 1)


def advi_on(
    problem: Problem,
    *,
    std_init_params: float = 0.1,
    log_std_base: float = -2.3,
    n_loss_samples: int = 3,
    optimizer: optax.GradientTransformation | None = None,
    n_epochs: int = 100,
    seed: Any = 0,
    monitoring: Monitoring = UNWATCHED,
) -> WeightPosterior:
    """`fit_advi` for a problem that exists already."""
    check_advi(std_init_params, log_std_base, n_loss_samples)
    check_climb(optimizer, n_epochs)
    optimizer = _default_optimizer() if optimizer is None else optimizer
    key = check_key(seed, "seed")
    order, noise = seed_from_key(key), jax.random.fold_in(key, 0)
    batches = batches_of(
        problem.loader, problem.points, pads=problem.pads, num_chains=1, seed=order
    )
    step = AdviStep(optimizer, int(n_loss_samples))
    network, kind, given = problem.subset.network, problem.kind, problem.given
    loop = Loop(network, kind, given, batches, step, key, 1)
    begin = repeated(problem, 1)
    spread = normal_like(jax.tree.map(at_least_float32, begin.trainable), noise)
    log_std = jax.tree.map(lambda z: float(log_std_base) + float(std_init_params) * z, spread)
    both = begin.trainable, log_std
    trained = train_epochs(
        problem,
        loop,
        Variational(*both, jax.vmap(optimizer.init)(both), begin.statistics),
        n_epochs,
        weights_of=_at_mean,
        monitoring=monitoring,
        description="ADVI",
    )
    mean, std, statistics = jax.tree.map(
        lambda leaf: leaf[0], jax.device_get(_moments(trained.state))
    )
    return posterior_on(
        problem, "advi", GaussianDraws(mean, std), trained.status, statistics=statistics
    )


@pytree
@dataclass(frozen=True)
class Variational:
    """The state: means, logarithms of standard deviations, the optimiser's state for both."""

    mean: Tree
    log_std: Tree
    opt_state: Tree
    statistics: tuple[jax.Array, ...]


@dataclass(frozen=True)
class AdviStep:
    """A step of an optimiser on the negative evidence bound; compiled once for each object."""

    optimizer: optax.GradientTransformation
    n_samples: int

    def __call__(
        self, target: BatchTarget, state: Variational, key: jax.Array, _: Any, __: Any
    ) -> tuple[Variational, jax.Array]:
        """The state one step on, and the evidence bound before it."""
        keys = jax.random.split(key, self.n_samples)

        def loss(both: tuple[Tree, Tree]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            mean, std = both[0], jax.tree.map(jnp.exp, both[1])
            expected, statistics = _expected_log_likelihood(target, mean, std, state, keys)
            bound = expected - _divergence(target, mean, std, keys).astype(expected.dtype)
            return -bound, statistics

        both = state.mean, state.log_std
        (found, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(both)
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, both)
        mean, log_std = optax.apply_updates(both, updates)
        return Variational(mean, log_std, opt_state, statistics), -found


def _expected_log_likelihood(
    target: BatchTarget, mean: Tree, std: Tree, state: Variational, keys: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Of a batch, by one draw a key."""
    if isinstance(target.network, DenseNetwork):
        outputs, spread = _output_moments(target, target.network, mean, std)

        def at_point(key: jax.Array) -> jax.Array:
            noise = jax.random.normal(key, outputs.shape, outputs.dtype)
            return target.log_likelihood(outputs + spread * noise)

        return jnp.mean(jax.vmap(at_point)(keys)), state.statistics

    def at_draw(key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        draw_key, network_key = jax.random.split(key)
        outputs, moved = target.outputs(_drawn(mean, std, draw_key), state.statistics, network_key)
        return target.log_likelihood(outputs), moved

    found, moved = jax.vmap(at_draw)(keys)
    return jnp.mean(found), jax.tree.map(lambda leaf: leaf[0], moved)


def _output_moments(
    target: BatchTarget, network: DenseNetwork, mean: Tree, std: Tree
) -> tuple[jax.Array, jax.Array]:
    """Means and standard deviations of the outputs of a layer, each output's by itself."""
    merge, given, inputs = target.kind.partition.merge, target.given, target.batch.inputs
    outputs = network.evaluate(merge(mean, given.frozen), given.mutable, inputs)
    features = at_least_float32(inputs[INPUTS] if isinstance(inputs, Mapping) else inputs)
    variances = jax.tree.map(jnp.square, std)
    # In half precision squares would overflow, or vanish.
    wide = DenseNetwork(replace(network.layer, dtype=wide_dtype(features, outputs).name))
    squares = wide.evaluate(merge(variances, given.frozen), given.mutable, features**2)
    # A point of zeros without a bias has no spread, and the root no derivative there.
    sound = squares > 0
    spread = jnp.where(sound, jnp.sqrt(jnp.where(sound, squares, 1)), 0)
    return at_least_float32(outputs), spread


def _divergence(target: BatchTarget, mean: Tree, std: Tree, keys: jax.Array) -> jax.Array:
    """``KL(q || p)``: in closed form from a Gaussian prior, else by the draws."""
    prior = target.given.prior
    if isinstance(prior, GaussianPrior):
        return prior.divergence(mean, std)

    def at_draw(key: jax.Array) -> jax.Array:
        return target.log_prior(_drawn(mean, std, jax.random.split(key)[0]))

    entropy = sum(
        jnp.sum(jnp.log(leaf)) + 0.5 * leaf.size * (1 + jnp.log(2 * jnp.pi))
        for leaf in jax.tree.leaves(std)
    )
    return -jnp.mean(jax.vmap(at_draw)(keys)) - entropy


def _drawn(mean: Tree, std: Tree, key: jax.Array) -> Tree:
    noise = normal_like(std, key)
    return jax.tree.map(
        lambda m, s, z: (m.astype(s.dtype) + s * z).astype(m.dtype), mean, std, noise
    )


def _at_mean(state: Variational) -> Draws:
    return Draws(state.mean, state.statistics)


def _moments(state: Variational) -> tuple[Tree, Tree, tuple[jax.Array, ...]]:
    return state.mean, jax.tree.map(jnp.exp, state.log_std), state.statistics


@functools.cache
def _default_optimizer() -> optax.GradientTransformation:
    return optax.adam(1e-2)
