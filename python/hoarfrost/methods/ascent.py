"""Optimisation of the log joint density by an optax optimiser, for members side by side."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hoarfrost.checks import check_counts, check_key, seed_from_key
from hoarfrost.methods.batches import Batches, batches_of
from hoarfrost.methods.draws import Draws
from hoarfrost.methods.epochs import UNWATCHED, Collector, Monitoring, Revise, Trained, train_epochs
from hoarfrost.methods.loop import Loop
from hoarfrost.methods.problem import Problem
from hoarfrost.methods.target import BatchTarget, moving_leaves
from hoarfrost.training.options import check_optimizer
from hoarfrost.types import Tree, pytree


@pytree
@dataclass(frozen=True)
class Climber:
    """The state of a member.

    Attributes
    ----------
    trainable, opt_state : tree of arrays
        Parameters, and the optimiser's state for them alone.
    statistics : tuple of arrays
        What moves of the network's other collections.
    """

    trainable: Tree
    opt_state: Tree
    statistics: tuple[jax.Array, ...]


@dataclass(frozen=True)
class AscentStep:
    """A step of an optimiser on the negative log joint density; compiled once for each object."""

    optimizer: optax.GradientTransformation

    def __call__(
        self, target: BatchTarget, member: Climber, key: jax.Array, _: Any, __: Any
    ) -> tuple[Climber, jax.Array]:
        """The member one step on, and the log joint density before it."""

        def loss(trainable: Tree) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            density, statistics = target.log_joint(trainable, member.statistics, key)
            return -density, statistics

        (found, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(member.trainable)
        updates, opt_state = optax.with_extra_args_support(self.optimizer).update(
            gradient,
            member.opt_state,
            member.trainable,
            # What line searches ask for; every other optimiser leaves it alone.
            value=found,
            grad=gradient,
            value_fn=lambda trainable: loss(trainable)[0],
        )
        trainable = optax.apply_updates(member.trainable, updates)
        return Climber(trainable, opt_state, statistics), -found


@functools.cache
def default_optimizer() -> optax.GradientTransformation:
    """Adam with a learning rate of 1e-3: the same object at every call."""
    return optax.adam(1e-3)


def check_climb(optimizer: Any, n_epochs: Any) -> None:
    """Raise `InvalidArgumentError` unless `climb` can take both: said before the data are read."""
    check_counts(n_epochs=n_epochs)
    if optimizer is not None:
        check_optimizer(optimizer)


def climb(
    problem: Problem,
    begin: Draws,
    *,
    optimizer: optax.GradientTransformation | None,
    n_epochs: int,
    seed: Any,
    description: str,
    batches: Batches | None = None,
    monitoring: Monitoring = UNWATCHED,
    collector: Collector | None = None,
    revise: Revise | None = None,
) -> Trained:
    """Train members side by side, each in an order of its own.

    Parameters
    ----------
    begin : Draws
        Where they start, leading axis of members.
    batches : Batches, optional
        Of these members, where they are made already; else each goes over all points.
    monitoring, collector, revise
        As in `hoarfrost.methods.epochs.train_epochs`.

    Returns
    -------
    Trained
        Its state is a `Climber`, leading axis of members.
    """
    optimizer = default_optimizer() if optimizer is None else optimizer
    check_optimizer(optimizer)
    key = check_key(seed, "seed")
    batches = member_batches(problem, key, begin.size) if batches is None else batches
    loop = Loop(
        problem.subset.network,
        problem.kind,
        problem.given,
        batches,
        AscentStep(optimizer),
        key,
        begin.size,
    )
    state = Climber(begin.trainable, jax.vmap(optimizer.init)(begin.trainable), begin.statistics)
    return train_epochs(
        problem,
        loop,
        state,
        n_epochs,
        weights_of=weights_of,
        monitoring=monitoring,
        description=description,
        collector=collector,
        revise=revise,
    )


def member_batches(
    problem: Problem, key: jax.Array, size: int, *, bootstrap: bool = False
) -> Batches:
    """The minibatches of so many members; of a `bootstrap`, of points drawn with replacement."""
    return batches_of(
        problem.loader,
        problem.points,
        pads=problem.pads,
        num_chains=size,
        seed=seed_from_key(key),
        bootstrap=bootstrap,
    )


def weights_of(state: Climber) -> Draws:
    """The parameters of the members, and their statistics."""
    return Draws(state.trainable, state.statistics)


def repeated(problem: Problem, count: int) -> Draws:
    """The parameters that were given, once for each member, in buffers of their own."""
    moving = moving_leaves(problem.given.mutable, problem.kind.moving)

    def again(leaf: Any) -> jax.Array:
        return jnp.repeat(jnp.asarray(leaf)[None], count, axis=0)

    trainable, statistics = jax.tree.map(again, (problem.whole.trainable, moving))
    return Draws(trainable, statistics)
