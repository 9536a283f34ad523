"""Whether a network treats each point of a batch by itself, shown on two points.

A curvature is a sum over points, and predictions are made in pieces of any size: the outputs for a
point must not depend on what else is in its batch.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import MixedPointsError
from hoarfrost.jaxprs import coarsest_eps
from hoarfrost.network.base import Network
from hoarfrost.network.programs import NetworkProgram
from hoarfrost.types import Tree

# Rows that the two points are chosen from.
_ROWS = 64

# Two batches of one shape go through the same operations, so that a point that is in both comes out
# the same but for the order in which a device adds up.
_SAME_SHAPE = 32.0

# Of the root of the rounding unit: what another shape may change, through any number of layers.
_OTHER_SHAPE = 4.0

_SEEN: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()


def check_points_apart(
    network: Network, params: Tree, mutable: Tree, inputs: Tree, *, again: bool = True
) -> None:
    """Raise unless two points come out together as they do alone.

    Parameters
    ----------
    network, params, mutable
        A network at its parameters.
    inputs : array or tree of arrays
        A batch; the two points are the first and one that differs most from it.
    again : bool
        Whether a network that was looked at before is looked at once more.

    Raises
    ------
    MixedPointsError
        If the outputs for a point depend on the other.
    """
    seen = _SEEN.setdefault(network, set())
    keyed: Any = network.unowned
    if not again and keyed in seen:
        return
    together, alone, eps = _program(network, params, mutable, _two_points(inputs))
    together, alone = (np.asarray(x).astype(np.float64) for x in (together, alone))
    if np.isfinite(together).all() and np.isfinite(alone).all():
        # What is not finite is said, and where, by those who use the outputs.
        _compare(together, alone, float(eps[0]), float(eps[1]))
    seen.add(keyed)


def _compare(together: np.ndarray, alone: np.ndarray, own: float, coarsest: float) -> None:
    both, twice_first, twice_second = together
    repeated = np.stack([twice_first[0], twice_second[1]])
    scale = max(float(np.abs(alone).max(initial=0)), float(np.abs(together).max(initial=0)))
    company = float(np.abs(both - repeated).max(initial=0))
    number = float(np.abs(repeated - alone[:, 0]).max(initial=0))
    if company > _SAME_SHAPE * own * scale or number > _OTHER_SHAPE * math.sqrt(coarsest) * scale:
        raise _mixed(
            f"they change by {max(company, number):.3g}, at a size of {scale:.3g}, where another "
            "point comes with it"
        )


def _mixed(found: str) -> MixedPointsError:
    return MixedPointsError(
        f"the network's outputs for a point depend on the other points of its batch: {found}. A "
        "curvature is a sum over points, and predictions are made in pieces, which such a network "
        "does not allow; look for sums, means or statistics over axis 0 (BatchNorm in training "
        "mode), for softmax or cumulative sums along it, and for transposed outputs"
    )


def _two_points(inputs: Tree) -> Tree:
    """The first point and another, as unlike it as there is one; leaves with a leading axis 2."""
    rows = jax.tree.map(lambda leaf: np.asarray(leaf[:_ROWS]), inputs)
    leaves = jax.tree.leaves(rows)
    unlike = np.zeros(len(leaves[0]))
    # What is not finite is said, and where, by those who use the inputs.
    with np.errstate(all="ignore"):
        for leaf in leaves:
            values = np.nan_to_num(leaf.reshape(len(leaf), -1).astype(np.float64))
            size = np.abs(values).max(initial=0) or 1.0
            unlike += np.abs(values / size - values[:1] / size).sum(axis=1)
    other = int(np.argmax(unlike))
    if unlike[other] > 0:
        return jax.tree.map(lambda leaf: leaf[[0, other]], rows)
    # One point, however often: another with its numbers in another order, which it can hold too.
    return jax.tree.map(lambda leaf: np.stack([leaf[0], np.flip(leaf[0])]), rows)


def _evaluate(
    network: Network, params: Tree, mutable: Tree, points: Tree
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Outputs for both together, for each twice, shape ``(3, 2, ...)``, and alone, ``(2, 1, ...)``.

    Beside them the rounding units of the outputs and of the coarsest number on the way.
    """

    def outputs_of(batch: Tree) -> jax.Array:
        outputs = network.evaluate(params, mutable, batch)
        size = jax.tree.leaves(batch)[0].shape[0]
        if outputs.ndim == 0 or outputs.shape[0] != size:
            raise _mixed(
                f"they have shape {tuple(outputs.shape)} for a batch of {size}, and axis 0 must "
                "run over the points"
            )
        return outputs

    pairs = jnp.asarray([[0, 1], [0, 0], [1, 1]])
    together = jax.lax.map(lambda pair: outputs_of(jax.tree.map(lambda x: x[pair], points)), pairs)
    alone = jax.lax.map(outputs_of, jax.tree.map(lambda x: x[:, None], points))
    coarsest = coarsest_eps(jax.make_jaxpr(outputs_of)(points).jaxpr)
    own = float(jnp.finfo(together.dtype).eps)  # type: ignore[no-untyped-call]
    return together, alone, jnp.asarray([own, max(coarsest, own)], jnp.float32)


_program = NetworkProgram(_evaluate)
