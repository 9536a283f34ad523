"""Steps of a method, many in one run of a program, for chains or members side by side.

A method gives one step of one chain, a pure function; here it is mapped over the chains and run
from batch to batch on the device. The frozen parameters are one argument for all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import all_finite
from hoarfrost.errors import NonFiniteError
from hoarfrost.fork import check_not_forked
from hoarfrost.methods.batches import Batches, Pick
from hoarfrost.methods.target import BatchTarget, Given, Kind
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.progress import progress_bar
from hoarfrost.training.step import PaddedBatch
from hoarfrost.types import Tree, pytree

# (target, state, key, numbers of the step, numbers of the run) -> (state, log joint density)
Step = Callable[[BatchTarget, Any, jax.Array, Any, Any], tuple[Any, jax.Array]]


@pytree
@dataclass(frozen=True)
class Carried:
    """What a block hands on to the next.

    Attributes
    ----------
    state : tree of arrays
        Of the method, every leaf with a leading axis of chains.
    failed : jax.Array
        Of each chain the first step that gave something not finite, -1 if there was none.
    """

    state: Tree
    failed: jax.Array


@dataclass(frozen=True, eq=False)
class Loop:
    """A method's step over its data.

    Attributes
    ----------
    network : Network
        Evaluated at each step.
    kind, given : Kind, Given
        The target density.
    batches : Batches
        Minibatches.
    step : Step
        Module-level, or hashable.
    key : jax.Array
        Chain c draws at step t from ``fold_in(fold_in(key, c), t)``.
    num_chains : int
        How many run side by side.
    """

    network: Network
    kind: Kind
    given: Given
    batches: Batches
    step: Step
    key: jax.Array
    num_chains: int

    def start(self, state: Tree) -> Carried:
        """A state before its first step."""
        return Carried(state, jnp.full((self.num_chains,), -1, jnp.int32))

    def run(
        self,
        carried: Carried,
        first: int,
        stops: Sequence[int],
        each: Tree,
        numbers: Tree,
        *,
        description: str,
        progress: bool,
        remedy: str,
        given: Callable[[], Given] | None = None,
    ) -> Iterator[tuple[int, Carried, np.ndarray]]:
        """From step `first` on, what there is at every stop.

        Parameters
        ----------
        carried : Carried
            The state before `first`; its buffers are used again.
        stops : sequence of int
            Ascending numbers of steps.
        each : tree of ndarray
            What a step takes, ``(stops[-1], ...)``; `numbers` what all of them take.
        description, progress
            Of the bar.
        remedy : str
            What helps where numbers are not finite any more.
        given : callable () -> Given, optional
            Asked before each block for what stands in the place of `given` of this loop.

        Yields
        ------
        stop : int
            How many steps are done.
        carried : Carried
            The state then, for as long as the next one is not asked for.
        losses : ndarray
            Negative log joint densities of the batches since the last stop, ``(steps, chains)``.

        Raises
        ------
        NonFiniteError
            If a step gave something that is not finite; the state is that before it.
        """
        check_not_forked("training")
        losses: list[Any] = []
        wanted = set(stops)
        with progress_bar(total=stops[-1], enabled=progress, description=description) as bar:
            bar.update(first)
            for start, stop, block in self.batches.blocks(first, [s for s in stops if s > first]):
                rows = jax.tree.map(functools.partial(_rows, start, stop, _length(block)), each)
                carried, done = _program(
                    self.network,
                    self.kind,
                    self.step,
                    self.batches.pick,
                    carried,
                    self.given if given is None else given(),
                    block,
                    rows,
                    numbers,
                    self.key,
                    np.int32(self.batches.first_chain),
                    np.int32(start),
                    np.int32(stop - start),
                )
                losses.append(done[: stop - start])
                bar.update(stop - start)
                if stop not in wanted:
                    continue
                _check(carried, self.batches.first_chain, remedy)
                found = np.concatenate([np.asarray(part) for part in losses])
                losses = []
                yield stop, carried, found


def _block(
    network: Network,
    kind: Kind,
    step: Step,
    pick: Pick,
    carried: Carried,
    given: Given,
    block: Tree,
    each: Tree,
    numbers: Tree,
    key: jax.Array,
    first_chain: jax.Array,
    start: jax.Array,
    count: jax.Array,
) -> tuple[Carried, jax.Array]:
    """`count` steps, and the negative log densities of their batches."""
    chains = carried.failed.shape[0]
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(first_chain + jnp.arange(chains))

    def one(
        state: Tree, failed: jax.Array, batch: PaddedBatch, key: jax.Array, own: Tree, at: jax.Array
    ) -> tuple[Tree, jax.Array, jax.Array]:
        target = BatchTarget(network, kind, given, batch)
        after, found = step(target, state, jax.random.fold_in(key, at), own, numbers)
        sound = all_finite((after, found)) & (failed < 0)
        kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
        return kept, jnp.where(sound | (failed >= 0), failed, at), -found

    def body(place: jax.Array, values: tuple[Carried, jax.Array]) -> tuple[Carried, jax.Array]:
        carried, losses = values
        own = jax.tree.map(lambda leaf: leaf[place], each)
        mapped = jax.vmap(one, in_axes=(0, 0, 0, 0, None, None))
        state, failed, loss = mapped(
            carried.state, carried.failed, pick(block, place), keys, own, start + place
        )
        return Carried(state, failed), losses.at[place].set(loss.astype(losses.dtype))

    wide = jax.dtypes.canonicalize_dtype(np.float64)
    losses = jnp.zeros((_length(block), chains), wide)
    found: tuple[Carried, jax.Array] = jax.lax.fori_loop(0, count, body, (carried, losses))
    return found


_program = NetworkProgram(_block, static=("kind", "step", "pick"), donate=("carried",))


def _length(block: Tree) -> int:
    """Most steps of a block: of the last of its leaves, which is by steps in either form."""
    length: int = np.shape(jax.tree.leaves(block)[-1])[0]
    return length


def _rows(start: int, stop: int, length: int, values: np.ndarray) -> np.ndarray:
    """What the steps of a block take, filled up to its length."""
    own = values[start:stop]
    return np.concatenate([own, np.zeros((length - len(own), *own.shape[1:]), own.dtype)])


def _check(carried: Carried, first_chain: int, remedy: str) -> None:
    failed = np.asarray(carried.failed)
    if (failed < 0).all():
        return
    chain = int(np.flatnonzero(failed >= 0)[0])
    where = "" if len(failed) == 1 else f" of chain {first_chain + chain + 1}"
    raise NonFiniteError(
        f"the log density, its gradient or the parameters{where} became NaN or infinite at step "
        f"{failed[chain] + 1}; {remedy}"
    )
