"""The last layer's structure, found by computing and checked on every batch.

Where the trainable leaves are the kernel ``W`` and bias ``b`` of a last Dense layer, the Jacobian
of the outputs is ``J_n = I (x) [a_n, 1]^T``, with ``a_n`` the layer's input. Nothing of size
``C x P`` has to be formed: ``a_n`` is the gradient of output ``c`` with respect to column ``c`` of
the kernel. Names of layers play no part. Whether the network really has this structure is decided
by one Jacobian-vector product along a random direction ``V``: ``J_n V = V^T a_n + v_b``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.result import PassResult
from hoarfrost.dtypes import all_finite, wide_dtype
from hoarfrost.freezing import Partition, Subset
from hoarfrost.jaxprs import coarsest_eps
from hoarfrost.network import Network, NetworkProgram
from hoarfrost.types import Tree

# Points that go through the network at once. A batch may be a whole data set; in pieces, the core
# works on one while JAX works on the next.
MAX_POINTS = 4096


@dataclass(frozen=True)
class HeadLayout:
    """Where a last layer's kernel and bias sit among the trainable leaves.

    Attributes
    ----------
    num_outputs : int
        ``C``, the network's outputs.
    num_inputs : int
        ``D``, the layer's inputs; 0 where only the bias is trainable.
    kernel : int or None
        Index of the kernel among the trainable leaves.
    output_axis : int
        Which axis of the kernel runs over the outputs.
    bias : int or None
        Index of the bias among the trainable leaves.
    """

    num_outputs: int
    num_inputs: int
    kernel: int | None
    output_axis: int
    bias: int | None

    @property
    def num_features(self) -> int:
        """``D'``: the layer's inputs, and a one where the bias is trainable."""
        return self.num_inputs + (self.bias is not None)

    def order(self) -> np.ndarray:
        """Ravelled index of each of the core's class-major indices ``c * D' + i``; int64."""
        num_outputs, num_inputs = self.num_outputs, self.num_inputs
        kernel_size = num_outputs * num_inputs
        order = np.empty((num_outputs, self.num_features), dtype=np.int64)
        if self.kernel is not None:
            start = num_outputs if self.bias is not None and self.bias < self.kernel else 0
            index = np.arange(start, start + kernel_size, dtype=np.int64)
            if self.output_axis == 0:
                order[:, :num_inputs] = index.reshape(num_outputs, num_inputs)
            else:
                order[:, :num_inputs] = index.reshape(num_inputs, num_outputs).T
        if self.bias is not None:
            start = kernel_size if self.kernel is not None and self.kernel < self.bias else 0
            order[:, -1] = np.arange(start, start + num_outputs)
        return order.ravel()


def candidate_layouts(shapes: Sequence[tuple[int, ...]], num_outputs: int) -> list[HeadLayout]:
    """Every way in which leaves of these shapes could be a last layer; often none."""
    kernels = [index for index, shape in enumerate(shapes) if len(shape) == 2]
    biases = [index for index, shape in enumerate(shapes) if shape == (num_outputs,)]
    if len(kernels) > 1 or len(biases) > 1 or len(kernels) + len(biases) != len(shapes):
        return []
    bias = biases[0] if biases else None
    if not kernels:
        return [HeadLayout(num_outputs, 0, None, 1, bias)] if biases else []
    kernel = kernels[0]
    # Flax keeps (inputs, outputs); functions in the style of `W @ x` keep (outputs, inputs).
    return [
        HeadLayout(num_outputs, shapes[kernel][1 - axis], kernel, axis, bias)
        for axis in (1, 0)
        if shapes[kernel][axis] == num_outputs and shapes[kernel][1 - axis] > 0
    ]


def check_direction(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """A fixed random direction, one float32 array a leaf, exact in every floating dtype.

    Its entries are ``+-(1 + k / 128)``: eight significant bits, so that a layer that computes in
    bfloat16 does not round the direction itself.
    """
    generator = np.random.default_rng(0)
    return [
        generator.choice(np.asarray([-1.0, 1.0], np.float32), shape)
        * (1 + generator.integers(0, 128, shape).astype(np.float32) / 128)
        for shape in shapes
    ]


def _features(
    network: Network,
    partition: Partition,
    layout: HeadLayout,
    params: Tree,
    mutable: Tree,
    inputs: Tree,
    direction: list[jax.Array],
) -> PassResult:
    """Outputs, layer inputs and the structure check of one piece."""
    trainable, frozen = partition.split(params)
    leaves, treedef = jax.tree.flatten(trainable)
    direction = [v.astype(leaf.dtype) for v, leaf in zip(direction, leaves, strict=True)]

    def point(example: Tree) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        def outputs_of(values: list[jax.Array]) -> jax.Array:
            merged = partition.merge(jax.tree.unflatten(treedef, values), frozen)
            batch = jax.tree.map(lambda leaf: leaf[None], example)
            return network.evaluate(merged, mutable, batch)[0]

        outputs, push = jax.linearize(outputs_of, leaves)
        pushed = push(direction)
        eps = jnp.asarray(coarsest_eps(jax.make_jaxpr(push)(direction).jaxpr), jnp.float32)
        place = layout.kernel
        if place is None:
            return outputs, jnp.ones((1,), leaves[0].dtype), pushed, eps
        kernel = leaves[place]

        def first_output(column: jax.Array) -> jax.Array:
            tangent = [jnp.zeros_like(leaf) for leaf in leaves]
            full = jnp.zeros_like(kernel)
            index = (slice(None), 0) if layout.output_axis == 1 else (0, slice(None))
            tangent[place] = full.at[index].set(column)
            first: jax.Array = push(tangent)[0]
            return first

        column = kernel[0] if layout.output_axis == 0 else kernel[:, 0]
        (features,) = jax.linear_transpose(first_output, column)(jnp.ones((), outputs.dtype))
        if layout.bias is not None:
            features = jnp.append(features, jnp.ones((), features.dtype))
        return outputs, features, pushed, eps

    # Reduced-precision products (TF32 on recent GPUs) would cost more digits than the float64
    # assembly that follows can be worth.
    with jax.default_matmul_precision("highest"):
        outputs, features, pushed, eps = jax.vmap(point, out_axes=(0, 0, 0, None))(inputs)
        holds = _structure_holds(layout, features, pushed, direction, eps)
    return PassResult(
        outputs=outputs,
        block=features,
        inputs_finite=all_finite(inputs),
        outputs_finite=all_finite(outputs),
        block_finite=all_finite(features),
        structure_holds=holds,
    )


def _structure_holds(
    layout: HeadLayout,
    features: jax.Array,
    pushed: jax.Array,
    direction: list[jax.Array],
    eps: jax.Array,
) -> jax.Array:
    """Whether ``J_n V = V^T a_n + v_b`` for every point, to rounding."""
    dtype = wide_dtype(features, pushed)
    columns = []
    if layout.kernel is not None:
        kernel = direction[layout.kernel]
        columns.append(kernel if layout.output_axis == 1 else kernel.T)
    if layout.bias is not None:
        columns.append(direction[layout.bias][None, :])
    stacked = jnp.concatenate([column.astype(dtype) for column in columns])
    features = features.astype(dtype)
    expected = features @ stacked
    # Rounding in a sum of D' products grows like sqrt(D') times the sum of their sizes; a network
    # without this structure misses by about that sum itself.
    tolerance = jnp.minimum(32 * math.sqrt(layout.num_features) * eps, 0.1).astype(dtype)
    scale = jnp.abs(features) @ jnp.abs(stacked)
    return jnp.all(jnp.abs(pushed.astype(dtype) - expected) <= tolerance * scale)


_head_program = NetworkProgram(_features, static=("partition", "layout"))


@dataclass(frozen=True, eq=False)
class HeadPass:
    """The pass that gives a last layer's inputs, for pieces of any batch.

    Attributes
    ----------
    subset, layout
        The network and which of its leaves are trainable, and how they make a layer.
    direction : list of ndarray
        What the layer's structure is checked along.
    """

    subset: Subset
    layout: HeadLayout
    direction: list[np.ndarray]

    @property
    def max_points(self) -> int:
        """Points that go through the network at once."""
        return MAX_POINTS

    def __call__(self, inputs: Tree, size: int) -> PassResult:
        """Dispatch one piece; rows from `size` on are padding, which the reader drops."""
        subset = self.subset
        result: PassResult = _head_program(
            subset.network,
            subset.partition,
            self.layout,
            subset.params,
            subset.mutable,
            inputs,
            self.direction,
        )
        return result


def find_head(subset: Subset, inputs: Tree, output_shape: tuple[int, ...]) -> HeadPass | None:
    """The pass for a last layer, or None where these inputs show no such structure.

    Parameters
    ----------
    subset : Subset
        The network and which of its leaves are trainable.
    inputs : array or tree of arrays
        One piece of the first batch, leading axis ``B``.
    output_shape : tuple of int
        Shape of the outputs for `inputs`.
    """
    if len(output_shape) != 2:
        return None
    shapes = [tuple(np.shape(leaf)) for leaf in jax.tree.leaves(subset.trainable)]
    for layout in candidate_layouts(shapes, output_shape[1]):
        head = HeadPass(subset, layout, check_direction(shapes))
        result = head(inputs, output_shape[0])
        # A piece on which every input of the layer is zero agrees with any layout and shows none.
        if layout.kernel is not None and not np.asarray(result.block)[:, : layout.num_inputs].any():
            continue
        # Outputs or inputs that are not finite cannot show the structure; the caller's own check
        # of the batch names them.
        finite = bool(result.outputs_finite) and bool(result.block_finite)
        if not finite or bool(result.structure_holds):
            return head
    return None
