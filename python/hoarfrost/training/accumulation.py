"""Gradients of several batches gathered for one update, which is that of one large batch.

The gradient of a batch of n points is ``-(N / n) sum grad log p(y | f) - grad log p(params)``.
Weighted by n over the points of all batches of an update, these add up to the gradient of one
batch that holds all of the points, whatever the sizes of the small ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data.checked import CheckedBatch
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood.points import num_counted
from hoarfrost.types import Tree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Turn:
    """The place of a batch among those of its update.

    Attributes
    ----------
    before, own : float
        The points of the update that came before it, and its own.
    last : bool
        Whether the update comes now.
    """

    before: Any
    own: Any
    last: Any


def turns(
    batches: Iterable[CheckedBatch], per_update: int
) -> Iterator[tuple[CheckedBatch, Turn | None]]:
    """Each batch with its turn; None where every batch makes an update.

    The last batch of an epoch is always the last of its update. To know it, the batch after one
    is read before that one is handed on.
    """
    if per_update == 1:
        for batch in batches:
            yield batch, None
        return
    count = points = 0
    rest = iter(batches)
    upcoming = next(rest, None)
    while upcoming is not None:
        batch, upcoming = upcoming, next(rest, None)
        count += 1
        last = count == per_update or upcoming is None
        own = num_counted(batch)
        yield batch, Turn(np.float32(points), np.float32(own), np.bool_(last))
        points += own
        if last:
            count = points = 0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gathered:
    """The mean loss and gradient over the points of an update so far, in float32 or wider.

    Attributes
    ----------
    loss : jax.Array
        Shape ``()``.
    gradient : tree of arrays
        As the trainable parameters are shaped.
    """

    loss: jax.Array
    gradient: Tree

    def like(self, loss: jax.Array, gradient: Tree) -> tuple[jax.Array, Tree]:
        """Both in the dtypes of one batch's."""
        own = (self.loss, self.gradient)
        cast: tuple[jax.Array, Tree] = jax.tree.map(
            lambda mean, one: mean.astype(one.dtype), own, (loss, gradient)
        )
        return cast


@jax.jit
def nothing_gathered(trainable: Tree) -> Gathered:
    """Before the first batch of an epoch."""
    # In 16 bits the sum over many batches would lose what each of them adds.
    return Gathered(
        jnp.zeros(()),
        jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)),
            trainable,
        ),
    )


def gather(gathered: Gathered, loss: jax.Array, gradient: Tree, turn: Turn) -> Gathered:
    """With the loss and the gradient of one more batch; what an earlier update took is left out."""

    def one(mean: jax.Array, new: jax.Array) -> jax.Array:
        before, own = (points.astype(mean.dtype) for points in (turn.before, turn.own))
        total = before + own
        return (before / total) * mean + (own / total) * new.astype(mean.dtype)

    return jax.tree.map(one, gathered, Gathered(loss, gradient))


def no_line_search(trainable: Tree) -> jax.Array:
    """What an optimiser gets that asks for the loss at other parameters while gradients gather.

    Raises
    ------
    InvalidArgumentError
        Always, while the program is made: the other batches of the update are gone.
    """
    raise InvalidArgumentError(
        "the optimizer searches along a line, which needs the loss of all batches of an update at "
        "once; set gradient_accumulation_steps to None and give larger batches, or take an "
        "optimizer without a line search, such as optax.adam"
    )
