"""Langevin chains from step to step: what they do, where they begin, their losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import at_least_float32
from hoarfrost.methods.ascent import repeated
from hoarfrost.methods.batches import Batches
from hoarfrost.methods.draws import normal_like
from hoarfrost.methods.langevin import Chain, LangevinStep, Pace
from hoarfrost.methods.loop import Loop
from hoarfrost.methods.preconditioners import Preconditioner
from hoarfrost.methods.problem import Problem
from hoarfrost.types import Array, Tree


@dataclass(frozen=True, eq=False)
class ChainPlan:
    """What a chain does.

    Attributes
    ----------
    name : str
        Of the method.
    pace : Pace
        Numbers of each step, arrays of shape ``(steps,)``.
    keep : sequence of int
        After how many steps a sample is kept, ascending.
    preconditioner : Preconditioner
        Of gradients and noise.
    """

    name: str
    pace: Pace
    keep: Sequence[int]
    preconditioner: Preconditioner


@dataclass(frozen=True, eq=False)
class ChainRun:
    """Chains of a plan on a problem.

    Attributes
    ----------
    problem, plan : Problem, ChainPlan
        What they sample, and how.
    key : jax.Array
        Of momenta and noise.
    batches : Batches
        Of all chains.
    groups : sequence of range
        Which chains run side by side; the groups run one after the other.
    """

    problem: Problem
    plan: ChainPlan
    key: jax.Array
    batches: Batches
    groups: Sequence[range]

    @property
    def num_chains(self) -> int:
        """Of all groups."""
        return self.groups[-1].stop

    def begin(self, chains: range) -> Chain:
        """Some chains at the parameters that were given, each with a momentum of its own."""
        wide = jax.tree.map(at_least_float32, self.problem.whole.trainable)

        def momentum(chain: jax.Array) -> Tree:
            # Steps count from 0, so that no step draws from this key.
            own = jax.random.fold_in(jax.random.fold_in(self.key, chain), np.uint32(2**32 - 1))
            return normal_like(wide, own)

        start, scale = repeated(self.problem, len(chains)), self.plan.preconditioner.init(wide)
        scales = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(chains), axis=0), scale)
        momenta = jax.vmap(momentum)(jnp.arange(chains.start, chains.stop))
        return Chain(start.trainable, momenta, scales, start.statistics)

    def states(
        self, chains: range, chain: Chain, first: int, stops: Sequence[int]
    ) -> Iterator[tuple[int, Chain, Array]]:
        """From a state before step `first` on, as `Loop.run` gives them: stop, state, losses."""
        problem, plan = self.problem, self.plan
        loop = Loop(
            problem.subset.network,
            problem.kind,
            problem.given,
            self.batches.part(chains),
            LangevinStep(plan.preconditioner),
            self.key,
            len(chains),
        )
        for stop, carried, losses in loop.run(
            loop.start(chain),
            first,
            stops,
            plan.pace,
            None,
            description=plan.name,
            progress=problem.progress,
            remedy="give smaller steps, or start from trained parameters",
        ):
            yield stop, carried.state, losses


class Losses:
    """Sums of the losses of each pass over the data, for each chain.

    Attributes
    ----------
    sums : ndarray
        Shape ``(epochs, chains)``, float64.
    """

    def __init__(self, run: ChainRun) -> None:
        self.per_epoch, self.steps = run.batches.per_epoch, run.plan.keep[-1]
        self.sums = np.zeros((-(-self.steps // self.per_epoch), run.num_chains))

    def add(self, stop: int, chains: range, found: Array) -> None:
        """Add those of the steps before `stop`: one after the other, wherever a piece ends."""
        epochs = np.arange(stop - len(found), stop) // self.per_epoch
        np.add.at(self.sums[:, chains.start : chains.stop], epochs, found.astype(np.float64))

    @property
    def means(self) -> Array:
        """Of each pass over the data, over all chains, ``(epochs,)``."""
        ends = np.minimum(self.per_epoch * np.arange(1, len(self.sums) + 1), self.steps)
        counts = np.diff(ends, prepend=0)
        means: Array = self.sums.mean(axis=1) / counts
        return means
