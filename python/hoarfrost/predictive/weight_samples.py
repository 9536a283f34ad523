"""Samples of the trainable parameters of a network, and statistics of its outputs under them.

Samples are mapped over in parallel, so that whatever depends on frozen parameters only is computed
once for all of them; frozen parameters are passed once, not once a sample.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.data.checked import check_finite_inputs
from hoarfrost.data.pieces import padded
from hoarfrost.devices import ANYWHERE, Devices
from hoarfrost.errors import NonFiniteError
from hoarfrost.fork import check_not_forked
from hoarfrost.freezing import Partition, Subset
from hoarfrost.jaxprs import largest_bytes
from hoarfrost.network import (
    Network,
    NetworkProgram,
    PerNetwork,
    check_points_apart,
    check_rows,
    settle,
)
from hoarfrost.types import Tree

Statistic = Callable[..., Any]
Transform = Callable[[Any, jax.Array], jax.Array]
# A statistic, whether it can be used, and the index and the number of points of its batch.
_Waiting = tuple[Tree, jax.Array, int, int]
Precision = Callable[[], AbstractContextManager[Any]]

# No intermediate array of a parallel evaluation is larger than this, unless a single sample's is.
MAX_BYTES = 2**28


@dataclass(frozen=True)
class WeightSamples:
    """Samples of the trainable parameters, beside the frozen ones.

    Attributes
    ----------
    partition : Partition
        Which parameters were sampled.
    trainable : tree of arrays
        Samples, with a leading axis; a tree without leaves stands for a single point mass.
    frozen : tree of arrays
        All other parameters.
    mutable : tree of arrays
        Collections other than "params".
    own : tuple of arrays
        Leaves of `mutable` that each sample has of its own, with the leading axis of the samples,
        in tree order; `owned` says which.
    owned : tuple of bool
        Whether a sample has a leaf of `mutable` of its own; () for none.
    center : tree of arrays or None
        Where the network is linearised in its trainable parameters: a sample's outputs are then
        ``f(center) + J (sample - center)``. None: they are the network's own at the sample.
    transform : callable (variables, outputs) -> outputs, or None
        Hashable and module-level, as an `OutputCalibrator` is: applied to the outputs, of shape
        ``(S, B, C)``, before any statistic.
    transform_variables : tree of arrays
        Its first argument.
    positions : tuple of int
        Of one example's outputs; each is a point, a row of the outputs of shape ``(S, B, C)``.
    devices : Devices
        Which share the points of a batch.
    """

    partition: Partition
    trainable: Tree
    frozen: Tree
    mutable: Tree
    center: Tree | None = None
    transform: Transform | None = None
    transform_variables: Tree = None
    positions: tuple[int, ...] = ()
    devices: Devices = ANYWHERE
    own: tuple[jax.Array, ...] = ()
    owned: tuple[bool, ...] = ()

    @property
    def size(self) -> int:
        """How many samples there are."""
        leaves = jax.tree.leaves(self.trainable)
        return leaves[0].shape[0] if leaves else 1

    def placed(self) -> WeightSamples:
        """The same with its arrays on its devices."""
        names = ("trainable", "frozen", "mutable", "own", "center", "transform_variables")
        arrays = self.devices.whole({name: getattr(self, name) for name in names})
        return replace(self, **arrays)


def point_mass(params: Tree, mutable: Tree) -> WeightSamples:
    """The parameters themselves as the only sample."""
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = tuple((i,) for i in range(len(flat)))
    # All leaves are frozen here, which `make_partition` rightly refuses to a user.
    partition = Partition(treedef, paths, (False,) * len(flat))
    return WeightSamples(partition, {}, tuple(leaf for _, leaf in flat), mutable)


def over_samples(
    network: Network,
    samples: WeightSamples,
    statistic: Statistic,
    batches: Iterable[tuple[Any, ...]],
    *,
    axis: int = 0,
    key: jax.Array | None = None,
    precision: Precision = nullcontext,
) -> Iterator[Any]:
    """A statistic of the outputs under all samples, batch by batch, on the host.

    The network's program gives outputs, and a small one after it the statistic: another statistic
    compiles no network again. A batch is dispatched before the one before it is waited for.

    Parameters
    ----------
    network : Network
        Gives the outputs.
    samples : WeightSamples
        Parameters.
    statistic : callable
        A module-level function, or a pytree of numbers that can be called:
        ``statistic(outputs, *rest)`` with outputs of shape ``(S, B, C)``; an array, or a tree of
        them.
    batches : iterable of tuple
        ``(inputs, *rest)``; a smaller batch is padded to the largest so far and cut again.
    axis : int
        The axis of the statistic that runs over the points.
    key : jax.Array, optional
        Appended to `rest`, folded with the batch's index.
    precision : callable
        Gives the block in which the statistic is computed, such as `in_float64`.

    Yields
    ------
    numpy.ndarray or tree
        What `statistic` gives for the batch's points.

    Raises
    ------
    NonFiniteError
        If inputs are NaN or infinite, or outputs are NaN; the batch is named.
    """
    check_not_forked("a prediction")
    argument = as_argument(statistic)
    samples, devices = samples.placed(), samples.devices
    rows, chunk = 0, 0
    waiting: _Waiting | None = None
    for index, (inputs, *rest) in enumerate(batches):
        check_finite_inputs(inputs, index, "the data loader")
        size = jax.tree.leaves(inputs)[0].shape[0]
        if not rows and size:
            params = samples.partition.merge(_one(samples), samples.frozen)
            first = tuple(leaf[0] for leaf in samples.own)
            mutable = with_own(samples.mutable, samples.owned, first)
            check_points_apart(network, params, mutable, inputs, again=False)
        if size > rows:
            rows, chunk = size, chunk_size(network, samples, inputs)
        each = math.prod(samples.positions)
        inputs = devices.split(padded(inputs, size, devices.rows(rows)))
        extra = devices.split(padded(tuple(rest), size * each, rows * each))
        if key is not None:
            extra = (*extra, jax.random.fold_in(key, index))
        outputs = _program(
            network,
            samples.partition,
            chunk,
            _arrays(samples),
            inputs,
            samples.positions,
            samples.owned,
        )
        if outputs.shape[1] > rows * each:
            # What is drawn for the points of a batch depends on its size, not on the devices.
            outputs = outputs[:, : rows * each]
        with precision():
            result, sound = _statistic_program(
                samples.transform, samples.transform_variables, argument, outputs, extra
            )
        if waiting is not None:
            yield _read(*waiting, axis)
        waiting = result, sound, index, size * each
    if waiting is not None:
        yield _read(*waiting, axis)


def _one(samples: WeightSamples) -> Tree:
    """A point of the trainable parameters that outputs are asked for at."""
    if samples.center is not None:
        return samples.center
    return jax.tree.map(lambda leaf: leaf[0], samples.trainable)


def output_shape(network: Network, samples: WeightSamples, inputs: Tree) -> tuple[int, ...]:
    """Shape of the network's outputs for these inputs; nothing is computed."""
    one = samples.center
    if one is None:
        one = jax.eval_shape(lambda some: jax.tree.map(lambda x: x[0], some), samples.trainable)
    params = samples.partition.merge(one, samples.frozen)
    # A calibrator keeps the shape.
    return Subset(network, samples.partition, params, samples.mutable).output_shape(inputs)


def as_argument(statistic: Statistic) -> Statistic:
    """A statistic as an argument of a program: its numbers are data, a plain function is static."""
    if not jax.tree_util.all_leaves([statistic]):
        return statistic
    function: Statistic = jax.tree_util.Partial(statistic)  # type: ignore[no-untyped-call]
    return function


def _read(result: Tree, sound: jax.Array, index: int, size: int, axis: int) -> Any:
    if not sound:
        raise NonFiniteError(
            f"the network's outputs on batch {index} hold a NaN, though its inputs are finite; "
            "check the parameters and the scale of the inputs"
        )
    rows = (slice(None),) * axis + (slice(size),)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], result)


def chunk_size(network: Network, samples: WeightSamples, inputs: Tree) -> int:
    """How many samples are evaluated at once for a batch like `inputs`."""
    own = samples.trainable, samples.own
    known = (own, samples.center, samples.frozen, samples.mutable, inputs)
    leaves, structure = jax.tree.flatten(known)
    # Not as str: the name of a key's dtype, which random state has, is none that JAX reads.
    shapes = tuple((np.shape(x), jax.dtypes.result_type(x)) for x in leaves)
    # Networks are hashable, which a protocol cannot say.
    find: Any = _chunk_sizes.of(network)
    kind = samples.partition, samples.positions, samples.owned
    size: int = find(network.unowned, *kind, samples.size, structure, shapes)
    return size


def _chunk_size(
    network: Any,
    partition: Partition,
    positions: tuple[int, ...],
    owned: tuple[bool, ...],
    size: int,
    structure: Any,
    shapes: tuple[tuple[tuple[int, ...], Any], ...],
) -> int:
    arrays = [jax.ShapeDtypeStruct(s, d) for s, d in shapes]  # type: ignore[no-untyped-call]
    trainable, *others = jax.tree.unflatten(structure, arrays)

    def program(some: Tree, *rest: Tree) -> jax.Array:
        return jax.vmap(_at_sample(network, partition, positions, owned, *rest))(some)

    def part(x: Any, chunk: int) -> Any:
        return jax.ShapeDtypeStruct((chunk, *x.shape[1:]), x.dtype)  # type: ignore[no-untyped-call]

    chunk = size
    while chunk > 1:
        some = jax.tree.map(functools.partial(part, chunk=chunk), trainable)
        if largest_bytes(jax.make_jaxpr(program)(some, *others).jaxpr) <= MAX_BYTES:
            break
        chunk //= 2
    settle(network)
    return chunk


_chunk_sizes = PerNetwork(lambda: functools.lru_cache(maxsize=256)(_chunk_size))


def _arrays(samples: WeightSamples) -> tuple[Tree, ...]:
    """What of the samples a program takes as arguments."""
    own = samples.trainable, samples.own
    return (own, samples.center, samples.frozen, samples.mutable)


def _outputs(
    network: Network,
    partition: Partition,
    chunk: int,
    arrays: tuple[Tree, ...],
    inputs: Tree,
    positions: tuple[int, ...] = (),
    owned: tuple[bool, ...] = (),
) -> jax.Array:
    """Outputs under all samples, shape ``(S, B, C)``."""
    own, center, frozen, mutable = arrays
    leaves = jax.tree.leaves(own)
    if not leaves:
        fixed = _at_sample(network, partition, positions, owned, None, frozen, mutable, inputs)
        return fixed(own)[None]
    one = _at_sample(network, partition, positions, owned, center, frozen, mutable, inputs)
    if chunk >= leaves[0].shape[0]:
        return jax.vmap(one)(own)
    return jax.lax.map(one, own, batch_size=chunk)


_program = NetworkProgram(_outputs, static=("partition", "positions", "chunk", "owned"))


def with_own(mutable: Tree, owned: tuple[bool, ...], own: tuple[Any, ...]) -> Tree:
    """The collections with these in the place of the leaves that are marked."""
    if not own:
        return mutable
    leaves, structure = jax.tree.flatten(mutable)
    replaced = iter(own)
    chosen = [next(replaced) if mark else leaf for leaf, mark in zip(leaves, owned, strict=True)]
    return jax.tree.unflatten(structure, chosen)


@functools.partial(jax.jit, static_argnums=0)
def _statistic_program(
    transform: Transform | None,
    variables: Tree,
    statistic: Statistic,
    outputs: jax.Array,
    rest: tuple[Any, ...],
) -> tuple[Tree, jax.Array]:
    """The statistic, and whether no output is a NaN: an infinite logit may be meant."""
    sound = ~jnp.any(jnp.isnan(outputs))
    if transform is not None:
        outputs = transform(variables, outputs)
    return statistic(outputs, *rest), sound


def _at_sample(
    network: Network,
    partition: Partition,
    positions: tuple[int, ...],
    owned: tuple[bool, ...],
    center: Tree | None,
    frozen: Tree,
    mutable: Tree,
    inputs: Tree,
) -> Callable[[Tree], jax.Array]:
    """The function of one sample, its parameters and collections, that is mapped over them all."""

    def one(sample: tuple[Tree, tuple[jax.Array, ...]]) -> jax.Array:
        trainable, own = sample
        collections = with_own(mutable, owned, own)
        outputs = network.evaluate(partition.merge(trainable, frozen), collections, inputs)
        size = jax.tree.leaves(inputs)[0].shape[0]
        check_rows(outputs.shape, size, positions=positions)
        return outputs.reshape(-1, outputs.shape[-1]) if positions else outputs

    if center is None:
        return one
    # The forward pass is done once; each sample then costs one product with the Jacobian.
    at_center, derivative = jax.linearize(lambda trainable: one((trainable, ())), center)

    def linearised(sample: tuple[Tree, tuple[jax.Array, ...]]) -> jax.Array:
        change = derivative(jax.tree.map(lambda a, b: a - b, sample[0], center))
        return at_center + change

    return linearised
