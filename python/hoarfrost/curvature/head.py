"""The last layer's structure, found by computing and checked on every batch.

Where the trainable leaves are the kernel ``W`` and bias ``b`` of a last Dense layer, the Jacobian
of the outputs is ``J_n = I (x) [a_n, 1]^T``, with ``a_n`` the layer's input. Nothing of size
``C x P`` has to be formed: ``a_n`` is the gradient of output ``c`` with respect to column ``c`` of
the kernel. Names of layers play no part. Whether the network really has this structure is decided
by a few products with the Jacobian along random directions (`hoarfrost.curvature.head_check`).
A layer that positions of an example share (tokens, pixels) has an input at each of them.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.head_check import (
    Directions,
    bias_error,
    check_directions,
    kernel_error,
    num_directions,
)
from hoarfrost.curvature.layout import HeadLayout, candidate_layouts, matrix_shape
from hoarfrost.curvature.result import PassResult
from hoarfrost.data.positions import examples_at_once
from hoarfrost.dtypes import all_finite
from hoarfrost.freezing import Partition, Subset
from hoarfrost.jaxprs import coarsest_eps
from hoarfrost.network import Network, NetworkProgram, check_rows
from hoarfrost.types import Tree

# Points that go through the network at once, of which an example with positions has many. A batch
# may be a whole data set; in pieces, the core works on one while JAX works on the next.
MAX_POINTS = 4096

# Inputs of a layer that positions share which are found at once: tangents of so many columns.
_INPUTS_AT_ONCE = 512

# Times what rounding explains: leaves that miss the structure by less are named in a warning.
_NEAR = 8.0


# The layer's inputs at a point, and what the kernel and the bias are checked by.
_Look = tuple[jax.Array, jax.Array | None, jax.Array | None]
_Along = Callable[[int, jax.Array], jax.Array]


def _features(
    network: Network,
    partition: Partition,
    layout: HeadLayout,
    params: Tree,
    mutable: Tree,
    inputs: Tree,
    direction: Directions,
    positions: tuple[int, ...] = (),
) -> PassResult:
    """Outputs, layer inputs and the structure check of one piece."""
    outputs, features, error = _with_inputs(
        network, partition, layout, params, mutable, inputs, direction, positions
    )
    return PassResult(
        outputs=outputs,
        block=features,
        inputs_finite=all_finite(inputs),
        outputs_finite=all_finite(outputs),
        block_finite=all_finite(features),
        structure_error=error,
    )


def _with_inputs(
    network: Network,
    partition: Partition,
    layout: HeadLayout,
    params: Tree,
    mutable: Tree,
    inputs: Tree,
    direction: Directions | None,
    positions: tuple[int, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Outputs, layer inputs, and how far they are from the layout; zero without directions."""
    trainable, frozen = partition.split(params)
    arrays, treedef = jax.tree.flatten(trainable)
    leaves = [leaf.reshape(matrix_shape(leaf.shape, positions)) for leaf in arrays]

    def point(example: Tree) -> tuple[jax.Array, *_Look]:
        def outputs_of(values: list[jax.Array]) -> jax.Array:
            values = [x.reshape(leaf.shape) for x, leaf in zip(values, arrays, strict=True)]
            merged = partition.merge(jax.tree.unflatten(treedef, values), frozen)
            batch = jax.tree.map(lambda leaf: leaf[None], example)
            outputs = network.evaluate(merged, mutable, batch)
            check_rows(outputs.shape, 1, layout.num_outputs, positions)
            return outputs.reshape(-1, layout.num_outputs) if positions else outputs[0]

        outputs, push = jax.linearize(outputs_of, leaves)
        zeros = [jnp.zeros_like(leaf) for leaf in leaves]
        units.append(coarsest_eps(jax.make_jaxpr(push)(zeros).jaxpr))

        def along(place: int, tangent: jax.Array) -> jax.Array:
            pushed: jax.Array = push([*zeros[:place], tangent, *zeros[place + 1 :]])
            return pushed

        look = _at_positions if positions else _at_point
        return outputs, *look(along, leaves, outputs, layout, direction)

    # What one trace of `point` says of the program.
    units: list[float] = []
    # Reduced-precision products (TF32 on recent GPUs) would cost more digits than the float64
    # assembly that follows can be worth.
    with jax.default_matmul_precision("highest"):
        outputs, features, pushed, pulled = jax.vmap(point)(inputs)
        if positions:
            outputs, features, pushed, pulled = jax.tree.map(
                lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]),
                (outputs, features, pushed, pulled),
            )
        error = jnp.zeros((), jnp.float32)
        if direction is not None:
            error = _structure_error(layout, features, pushed, pulled, direction, max(units))
    return outputs, features, error


def _at_point(
    along: _Along,
    leaves: list[jax.Array],
    outputs: jax.Array,
    layout: HeadLayout,
    direction: Directions | None,
) -> _Look:
    """Where an example is one point, its outputs ``(C,)``."""
    pushed = pulled = None
    features = jnp.ones((0,), leaves[0].dtype)
    if layout.kernel is not None:
        place, kernel = layout.kernel, leaves[layout.kernel]
        if direction is not None:
            pushed = _pushed(along, layout, kernel, direction)

        def first_output(column: jax.Array) -> jax.Array:
            index = (slice(None), 0) if layout.output_axis == 1 else (0, slice(None))
            full = jnp.zeros_like(kernel).at[index].set(column)
            first: jax.Array = along(place, full)[0]
            return first

        column = kernel[0] if layout.output_axis == 0 else kernel[:, 0]
        (features,) = jax.linear_transpose(first_output, column)(jnp.ones((), outputs.dtype))
    if layout.bias is not None:
        if direction is not None:
            bias = leaves[layout.bias]
            pull = jax.linear_transpose(functools.partial(along, layout.bias), bias)
            cotangents = jnp.asarray(direction.bias).astype(outputs.dtype)
            pulled = jax.vmap(lambda cotangent: pull(cotangent)[0])(cotangents)
        features = jnp.append(features, jnp.ones((), features.dtype))
    return features, pushed, pulled


def _pushed(
    along: _Along, layout: HeadLayout, kernel: jax.Array, direction: Directions
) -> jax.Array:
    """Products with the Jacobian along each direction of the kernel, a leading axis K."""
    assert layout.kernel is not None
    place = layout.kernel
    towards = jnp.asarray(direction.kernel).astype(kernel.dtype)
    signs = jnp.asarray(direction.signs).astype(kernel.dtype)
    rows = jnp.expand_dims(signs, 1 if layout.output_axis == 0 else 2)
    found: jax.Array = jax.lax.map(lambda row: along(place, towards * row), rows)
    return found


def _at_positions(
    along: _Along,
    leaves: list[jax.Array],
    outputs: jax.Array,
    layout: HeadLayout,
    direction: Directions | None,
) -> _Look:
    """Where an example is T points, its outputs ``(T, C)``: a leading axis T.

    A gradient would add up what belongs to T positions. A tangent of the kernel that has a one in
    row d of column c moves output c by input d, at all positions at once; C of them fit into one
    tangent, so that all inputs cost one product of ``T x D x D``. They have the outputs' rounding.
    """
    count, num_outputs = outputs.shape
    pushed = pulled = None
    features = jnp.ones((count, 0), outputs.dtype)
    if layout.kernel is not None:
        place, kernel, num_inputs = layout.kernel, leaves[layout.kernel], layout.num_inputs
        if direction is not None:
            pushed = jnp.swapaxes(_pushed(along, layout, kernel, direction), 0, 1)

        def inputs_from(first: jax.Array) -> jax.Array:
            ones = jnp.arange(num_inputs)[:, None] == first + jnp.arange(num_outputs)[None, :]
            tangent = ones.astype(kernel.dtype)
            return along(place, tangent if layout.output_axis == 1 else tangent.T)

        starts = jnp.arange(0, num_inputs, num_outputs)
        at_once = min(len(starts), max(1, _INPUTS_AT_ONCE // num_outputs))
        found = jax.lax.map(inputs_from, starts, batch_size=at_once)
        features = jnp.swapaxes(found, 0, 1).reshape(count, -1)[:, :num_inputs]
    if layout.bias is not None:
        if direction is not None:
            bias = leaves[layout.bias]
            # Where J_n is the identity, J_n u is u just as J_n^T u is.
            moved = jax.vmap(functools.partial(along, layout.bias))
            found = moved(jnp.asarray(direction.bias).astype(bias.dtype))
            pulled = jnp.swapaxes(found, 0, 1)
        features = jnp.append(features, jnp.ones((count, 1), features.dtype), axis=1)
    return features, pushed, pulled


def _structure_error(
    layout: HeadLayout,
    features: jax.Array,
    pushed: jax.Array | None,
    pulled: jax.Array | None,
    direction: Directions,
    eps: float,
) -> jax.Array:
    """How far the points are from this layout, as a multiple of what rounding may do."""
    errors = [jnp.zeros((), jnp.float32)]
    if pushed is not None:
        kernel = jnp.asarray(direction.kernel)
        kernel = kernel if layout.output_axis == 1 else kernel.T
        signs = jnp.asarray(direction.signs)
        inputs = features[:, : layout.num_inputs]
        errors.append(kernel_error(inputs, pushed, kernel, signs, eps))
    if pulled is not None:
        errors.append(bias_error(pulled, jnp.asarray(direction.bias), eps))
    return jnp.max(jnp.stack([error.astype(jnp.float32) for error in errors]))


def layer_inputs(
    network: Network,
    partition: Partition,
    layout: HeadLayout,
    params: Tree,
    mutable: Tree,
    inputs: Tree,
    positions: tuple[int, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Outputs ``(B, C)`` and layer inputs ``(B, D')`` alone, for a program of another's.

    With positions each has a row.
    """
    found = _with_inputs(network, partition, layout, params, mutable, inputs, None, positions)
    return found[:2]


_head_program = NetworkProgram(_features, static=("partition", "layout", "positions"))


@dataclass(frozen=True, eq=False)
class HeadPass:
    """The pass that gives a last layer's inputs, for pieces of any batch.

    Attributes
    ----------
    subset, layout
        The network and which of its leaves are trainable, and how they make a layer.
    direction : Directions
        What the layer's structure is checked along.
    positions : tuple of int
        Of one example, each of which is a point.
    """

    subset: Subset
    layout: HeadLayout
    direction: Directions
    positions: tuple[int, ...] = ()

    @property
    def max_points(self) -> int:
        """Examples that go through the network at once."""
        return examples_at_once(MAX_POINTS, self.positions)

    def __call__(self, inputs: Tree, size: int) -> PassResult:
        """Dispatch one piece; examples from `size` on are padding, which the reader drops."""
        subset = self.subset
        result: PassResult = _head_program(
            subset.network,
            subset.partition,
            self.layout,
            subset.params,
            subset.mutable,
            subset.devices.split(inputs),
            self.direction,
            self.positions,
        )
        return result


def find_head(
    subset: Subset, inputs: Tree, output_shape: tuple[int, ...], *, warn: bool = False
) -> HeadPass | None:
    """The pass for a last layer, or None where these inputs show no such structure.

    Parameters
    ----------
    subset : Subset
        The network and which of its leaves are trainable.
    inputs : array or tree of arrays
        One piece of the first batch, leading axis ``B``.
    output_shape : tuple of int
        Shape of the outputs for `inputs`, ``(B, C)`` or with axes of positions between the two.
    warn : bool
        Whether a layer that nearly has the structure is named in a warning.
    """
    if len(output_shape) < 2:
        return None
    positions = output_shape[1:-1]
    leaves = jax.tree.leaves(subset.trainable)
    shapes = [matrix_shape(tuple(np.shape(leaf)), positions) for leaf in leaves]
    nearest = math.inf
    for layout in candidate_layouts(shapes, output_shape[-1]):
        shape = None if layout.kernel is None else shapes[layout.kernel]
        bias_size = None if layout.bias is None else layout.num_outputs
        points = int(np.shape(jax.tree.leaves(inputs)[0])[0]) * math.prod(positions)
        direction = check_directions(shape, layout.num_inputs, bias_size, num_directions(points))
        direction = subset.devices.whole(direction)
        head = HeadPass(subset, layout, direction, positions)
        result = head(inputs, output_shape[0])
        # A piece on which every input of the layer is zero agrees with any layout and shows none.
        if layout.kernel is not None and not np.asarray(result.block)[:, : layout.num_inputs].any():
            continue
        # Outputs or inputs that are not finite cannot show the structure; the caller's own check
        # of the batch names them.
        finite = bool(result.outputs_finite) and bool(result.block_finite)
        if not finite or float(result.structure_error) <= 1:
            return head
        nearest = min(nearest, float(result.structure_error))
    if warn and nearest < _NEAR:
        warnings.warn(
            "the trainable parameters are nearly a plain Dense layer that gives the outputs: they "
            f"differ by {nearest:.2g} times what the rounding of their dtypes explains (is there a "
            "scale or a cap after the layer?); rows of their Jacobian are formed, which is exact "
            "and takes more time and memory",
            UserWarning,
            stacklevel=2,
        )
    return None
