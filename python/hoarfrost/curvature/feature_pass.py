"""The inputs of a last layer at every point: the frozen part of a network, run once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.head import MAX_POINTS, HeadPass, find_head
from hoarfrost.curvature.layout import candidate_layouts, matrix_shape
from hoarfrost.curvature.result import PassResult
from hoarfrost.curvature.stream import stream
from hoarfrost.data.checked import CheckedBatch
from hoarfrost.data.pieces import cut, piece_size
from hoarfrost.data.positions import examples_at_once
from hoarfrost.errors import StructureError
from hoarfrost.freezing import Subset
from hoarfrost.freezing.features import fingerprint_of
from hoarfrost.jaxprs import coarsest_eps
from hoarfrost.network import check_points_apart
from hoarfrost.network.dense import INPUTS, OFFSET, DenseLayer, DenseNetwork, Origin
from hoarfrost.types import Tree, join

# Times the rounding of a product, by which the layer's outputs may differ from the network's.
_ROUNDING = 8.0


@dataclass(frozen=True, eq=False)
class FeaturePass:
    """The pass that gives features, in pieces of one size.

    Attributes
    ----------
    run : HeadPass
        With the layer's own parameters at zero, so that the outputs are what is added to it.
    origin : Origin
        What the features are of.
    size : int
        Examples of a piece.
    has_offset : bool
        Whether something frozen is added to the layer's outputs.
    """

    run: HeadPass
    origin: Origin
    size: int
    has_offset: bool

    @property
    def positions(self) -> tuple[int, ...]:
        """Of one example."""
        return self.run.positions

    @property
    def point_bytes(self) -> int:
        """Bytes of the features of one example, at four a number."""
        layer = self.origin.layer
        width = layer.num_inputs + (layer.num_outputs if self.has_offset else 0)
        return 4 * math.prod(self.positions) * width

    @property
    def names(self) -> tuple[str, ...]:
        """What the arrays of `features` are called."""
        return (INPUTS, OFFSET) if self.has_offset else (INPUTS,)

    def features(self, batches: Iterable[CheckedBatch]) -> Iterator[tuple[np.ndarray, ...]]:
        """Inputs ``(B, ..., D)`` of the layer, and the offset ``(B, ..., C)``, piece by piece.

        Raises
        ------
        NonFiniteError
            If inputs, or what the network makes of them, hold a NaN or an infinity.
        StructureError
            If the layer's structure does not hold on a batch.
        """
        bare = (replace(batch, targets=None, mask=None) for batch in batches)
        width = self.origin.layer.num_inputs
        for piece in stream(self.run, bare, self.size):
            lead = (len(piece.outputs) // math.prod(self.positions), *self.positions)
            inputs = piece.block[:, :width].reshape(*lead, width)
            if self.has_offset:
                yield inputs, piece.outputs.reshape(*lead, -1)
                continue
            if piece.outputs.any():
                raise StructureError(
                    "something that is not trained is added to the layer's outputs at some points, "
                    "which the first batch did not show; put such points into the first batch"
                )
            yield (inputs,)


def feature_pass(subset: Subset, first: CheckedBatch) -> FeaturePass | None:
    """The pass for a subset whose trainable leaves are a last layer, or None where they are not.

    Parameters
    ----------
    subset : Subset
        The network and which of its leaves are trainable.
    first : CheckedBatch
        Of inputs, on which the structure shows.

    Raises
    ------
    MixedPointsError
        If the outputs for a point depend on the other points of the batch.
    """
    given = subset
    params, mutable = jax.tree.map(jnp.asarray, (subset.params, subset.mutable))
    subset = replace(subset, params=params, mutable=mutable).placed()
    shape = subset.output_shape(first.inputs)
    if not could_be_head(subset, shape):
        return None
    check_points_apart(subset.network, subset.params, subset.mutable, first.inputs)
    positions = shape[1:-1]
    size = piece_size(first.size, examples_at_once(MAX_POINTS, positions))
    size = subset.devices.rows(size)
    inputs = cut(first.inputs, 0, size, min(size, first.size))
    head = find_head(subset, inputs, (size, *shape[1:]))
    if head is None:
        return None
    partition = subset.partition
    run = _with_layer(head, jax.tree.map(jnp.zeros_like, subset.trainable))
    # At parameters of a layer's usual size, whatever its own are: zeros, at times.
    other = _with_layer(head, subset.devices.whole(_ordinary(subset.trainable)))
    bare, full = run(inputs, size), other(inputs, size)
    places = [place for place, chosen in enumerate(partition.mask) if chosen]
    layout = head.layout
    layer = DenseLayer(
        num_leaves=len(partition.mask),
        kernel=None if layout.kernel is None else places[layout.kernel],
        bias=None if layout.bias is None else places[layout.bias],
        output_axis=layout.output_axis,
        num_inputs=layout.num_inputs,
        num_outputs=layout.num_outputs,
        dtype=str(bare.outputs.dtype),
    )
    point = point_of(first.inputs)
    if bool(bare.outputs_finite) and bool(bare.block_finite):
        eps = coarsest_eps(jax.make_jaxpr(_evaluated(subset))(point).jaxpr)
        sound = max(float(bare.structure_error), float(full.structure_error)) <= 1
        if not sound or not _is_linear(layer, other.subset, full, bare, eps):
            return None
    names = tuple(map(join, partition.trainable_paths))
    origin = Origin(layer, names, fingerprint_of(given, point), point)
    return FeaturePass(run, origin, size, bool(np.any(np.asarray(bare.outputs))))


def could_be_head(subset: Subset, output_shape: tuple[int, ...]) -> bool:
    """Whether the trainable leaves have the shapes of a last layer; computes nothing."""
    if len(output_shape) < 2:
        return False
    shapes = [
        matrix_shape(tuple(np.shape(leaf)), output_shape[1:-1])
        for leaf in jax.tree.leaves(subset.trainable)
    ]
    return bool(candidate_layouts(shapes, output_shape[-1]))


def point_of(inputs: Tree) -> Tree:
    """One input of a batch by its shapes and dtypes, leading axis 1."""

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        dtype = jax.dtypes.canonicalize_dtype(np.dtype(leaf.dtype).newbyteorder("="))
        return jax.ShapeDtypeStruct((1, *leaf.shape[1:]), dtype)  # type: ignore[no-untyped-call]

    return jax.tree.map(one, inputs)


def _evaluated(subset: Subset) -> Callable[[Tree], jax.Array]:
    return lambda inputs: subset.network.evaluate(subset.params, subset.mutable, inputs)


def _with_layer(head: HeadPass, trainable: Tree) -> HeadPass:
    """The pass where the layer has these parameters."""
    subset = head.subset
    params = subset.partition.merge(trainable, subset.frozen)
    return replace(head, subset=replace(subset, params=params))


def _ordinary(trainable: Tree) -> Tree:
    """Parameters of a layer as an initialiser draws them."""
    random = np.random.default_rng(0)

    def one(leaf: jax.Array) -> jax.Array:
        size = max(leaf.shape, default=1) ** -0.5
        return jnp.asarray(size * random.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map(one, trainable)


def _is_linear(
    layer: DenseLayer, subset: Subset, full: PassResult, bare: PassResult, eps: float
) -> bool:
    """Whether the layer gives the network's outputs, from inputs that do not depend on it.

    A Jacobian that looks like a layer's at some parameters may be another one at others: here those
    of `subset`, where the pass gave `full`, beside those of zero, where it gave `bare`.
    """
    bare_block, full_block = (
        np.asarray(x.block)[:, : layer.num_inputs].astype(np.float64) for x in (bare, full)
    )
    inputs = {INPUTS: np.asarray(bare.block)[:, : layer.num_inputs], OFFSET: bare.outputs}
    network = DenseNetwork(layer)
    found = np.asarray(network.evaluate(subset.params, {}, inputs)).astype(np.float64)
    sizes = jax.tree.map(jnp.abs, subset.trainable)
    params = subset.partition.merge(sizes, subset.frozen)
    scale = np.asarray(network.evaluate(params, {}, jax.tree.map(jnp.abs, inputs)))
    error = np.abs(found - np.asarray(full.outputs).astype(np.float64))
    moved = np.abs(full_block - bare_block).max(initial=0)
    return bool(
        (error <= _ROUNDING * eps * scale.astype(np.float64)).all()
        and moved <= eps * np.abs(bare_block).max(initial=0)
    )
