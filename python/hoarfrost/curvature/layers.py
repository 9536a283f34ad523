"""Trainable leaves as layers that multiply by a kernel, found by looking at the traced program.

The Jacobian of a network in the kernel of a layer with inputs ``a_s`` at its S positions is
``sum_s G_s (x) a_s^T``: S is 1 for a Dense layer of a network over vectors, and the number of
pixels or tokens for a convolution or a layer that they share. Nothing of the kernel's size is made
for a point of a layer with one position; of the others a prediction makes rows of the Jacobian. All
is checked in every piece by a product with the Jacobian along a random direction.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from hoarfrost.curvature import taps
from hoarfrost.curvature.head import MAX_POINTS
from hoarfrost.curvature.jacobian import CHUNK_BYTES
from hoarfrost.curvature.result import PassResult
from hoarfrost.dtypes import all_finite, wide_dtype
from hoarfrost.freezing import Partition, Subset
from hoarfrost.jaxprs import coarsest_eps
from hoarfrost.likelihood import Likelihood
from hoarfrost.network import Network, NetworkProgram, PerNetwork, check_rows
from hoarfrost.network.keyed import settle
from hoarfrost.types import Array, Path, Tree, join

# Columns of a root of the likelihood's curvature from which on some are drawn, and how many.
MAX_COLUMNS = 64

# Rounding units by which a product with the Jacobian may differ from what the layers say: forward
# and backward they go through all operations of the network.
_ROUNDINGS = 1024.0


@dataclass(frozen=True)
class Layer:
    """One layer by its trainable leaves, of which one may be missing.

    Attributes
    ----------
    kernel, bias : int or None
        Their places among the trainable leaves.
    num_inputs, num_outputs : int
        ``D`` and ``O``.
    shared : bool
        Whether an example has several positions.
    """

    kernel: int | None
    bias: int | None
    num_inputs: int
    num_outputs: int
    shared: bool

    @property
    def width(self) -> int:
        """``D'``: the layer's inputs, and a one where the bias is trainable."""
        return self.num_inputs + (self.bias is not None)

    @property
    def num_params(self) -> int:
        """``O D'``."""
        return self.num_outputs * self.width


@dataclass(frozen=True)
class Layers:
    """All trainable leaves: those of layers, and those of which the diagonal is taken.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of their leaves.
    diagonal : tuple of int
        All other leaves.
    diagonal_size : int
        Numbers in them.
    """

    layers: tuple[Layer, ...]
    diagonal: tuple[int, ...]
    diagonal_size: int

    def widths(self, rows: int, *, fitting: bool) -> Iterator[tuple[int, int]]:
        """Numbers of a point in a block: of each layer's ``a`` and ``G``, then of other rows.

        A prediction has rows of the Jacobian itself for a layer with several positions.
        """
        for layer in self.layers:
            if layer.shared and not fitting:
                yield 0, rows * layer.num_params
            else:
                yield layer.width, rows * layer.num_outputs
        yield 0, self.diagonal_size * (1 if fitting else rows)

    def parts(self, block: Array, rows: int, *, fitting: bool) -> Iterator[tuple[Array, Array]]:
        """``a`` and ``G`` (or rows) of each layer, then the rows of other leaves, from a block."""
        start = 0
        for width, size in self.widths(rows, fitting=fitting):
            middle, stop = start + width, start + width + size
            yield block[:, start:middle], block[:, middle:stop]
            start = stop


@dataclass(frozen=True, eq=False)
class FoundLayers:
    """The layers of a subset, and which parameter each of their numbers is.

    Attributes
    ----------
    layers : Layers
        What there is.
    order : ndarray
        Ravelled index of each of the core's indices: layer by layer, by output, then input, the
        bias last; then those of which the diagonal is taken. Shape ``(P,)``, int64.
    """

    layers: Layers
    order: Array


def find_layers(subset: Subset, example: Tree, *, order: bool = True) -> FoundLayers | str:
    """The layers of a subset, or why there are none: a sentence that names a leaf.

    Without `order` nothing of the size of a leaf is made, and there is none.

    Parameters
    ----------
    subset : Subset
        The network and which of its leaves are trainable.
    example : tree of jax.ShapeDtypeStruct
        One example of the inputs, without the leading axis. The network is traced and not run.
    """
    leaves = jax.tree.leaves(subset.trainable)
    closed = _trace_of(subset, example)
    found, paths = taps.uses(closed, len(leaves), indices=order), subset.partition.trainable_paths
    for leaf, path, use in zip(leaves, paths, found, strict=True):
        hidden = [name for name in use.operations if name in taps.PRODUCTS]
        alone = use.index is not None and use.index.size == leaf.size and len(use.operations) == 1
        if hidden and not alone:
            return _refusal(path, use)
    layers, taken = list[Layer](), set[int]()
    for place, use in enumerate(found):
        if use.index is None:
            continue
        bias = _bias_of(place, found, leaves, use.index.shape[1])
        shared = use.rows > 1
        num_inputs, num_outputs = use.index.shape
        layers.append(Layer(place, bias, num_inputs, num_outputs, shared))
        taken |= {place} if bias is None else {place, bias}
    for place, (leaf, use) in enumerate(zip(leaves, found, strict=True)):
        added = use.operations == ["add"] and use.added_to is not None and leaf.ndim == 1
        if place not in taken and added:
            # The input of a bias is 1.
            layers.append(Layer(None, place, 0, leaf.size, False))
            taken.add(place)
    layers.sort(key=lambda one: min(p for p in (one.kernel, one.bias) if p is not None))
    rest = tuple(place for place in range(len(leaves)) if place not in taken)
    chosen = Layers(tuple(layers), rest, sum(leaves[place].size for place in rest))
    return FoundLayers(chosen, _order(chosen, found, leaves) if order else np.empty(0, np.int64))


def _refusal(path: Path, use: taps.Use) -> str:
    how = " and ".join(dict.fromkeys(use.operations))
    return (
        f"the leaf {join(path)!r} is no kernel of a Dense layer or a convolution that a trace of "
        f"the network shows (it goes into {how}: it is used more than once, or by each group, or "
        "inside a loop, a condition or a function with a derivative of its own)"
    )


def _bias_of(kernel: int, found: list[taps.Use], leaves: list[Any], num_outputs: int) -> int | None:
    biases = [
        place
        for place, use in enumerate(found)
        if use.added_to == kernel
        and use.operations == ["add"]
        and leaves[place].shape == (num_outputs,)
    ]
    return biases[0] if len(biases) == 1 else None


def _order(layers: Layers, found: list[taps.Use], leaves: list[Any]) -> Array:
    starts = np.concatenate([[0], np.cumsum([leaf.size for leaf in leaves])])
    parts = []
    for layer in layers.layers:
        own = np.empty((layer.num_outputs, layer.width), np.int64)
        if layer.kernel is not None:
            index = found[layer.kernel].index
            assert index is not None
            own[:, : layer.num_inputs] = starts[layer.kernel] + index.T
        if layer.bias is not None:
            own[:, -1] = starts[layer.bias] + np.arange(layer.num_outputs)
        parts.append(own.ravel())
    parts += [starts[place] + np.arange(leaves[place].size) for place in layers.diagonal]
    return np.concatenate(parts).astype(np.int64)


def _trace_of(subset: Subset, example: Tree) -> Any:
    """The program of one example, traced once for networks and shapes that are the same."""
    shapes = jax.tree.map(_form, (subset.params, subset.mutable, example))
    leaves, treedef = jax.tree.flatten(shapes)
    unowned: Any = subset.network.unowned
    return _traces.of(subset.network)(unowned, subset.partition, treedef, tuple(leaves))


def _form(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf))  # type: ignore[no-untyped-call]


def _trace(network: Network, partition: Partition, treedef: Any, shapes: tuple[Any, ...]) -> Any:
    params, mutable, example = jax.tree.unflatten(treedef, shapes)
    closed = _traced(network, partition, params, mutable, example, ())
    settle(network)
    return closed


_traces = PerNetwork(lambda: functools.lru_cache(maxsize=16)(_trace))


def _traced(
    network: Network,
    partition: Partition,
    params: Tree,
    mutable: Tree,
    example: Tree,
    positions: tuple[int, ...],
) -> Any:
    """The program of one example, whose first arguments are the trainable leaves."""
    trainable, frozen = partition.split(params)
    leaves, treedef = jax.tree.flatten(trainable)

    def outputs_of(leaves: list[Any], frozen: Tree, mutable: Tree, example: Tree) -> jax.Array:
        merged = partition.merge(jax.tree.unflatten(treedef, leaves), frozen)
        batch = jax.tree.map(lambda leaf: leaf[None], example)
        outputs = network.evaluate(merged, mutable, batch)
        check_rows(outputs.shape, 1, positions=positions)
        return outputs.reshape(-1)

    shapes = jax.tree.map(_form, (leaves, frozen, mutable, example))
    return jax.make_jaxpr(outputs_of)(*shapes)


def _layered(
    network: Network,
    partition: Partition,
    layers: Layers,
    likelihood: Likelihood | None,
    params: Tree,
    mutable: Tree,
    inputs: Tree,
    direction: Sequence[jax.Array],
) -> PassResult:
    """Outputs, the parts of every layer side by side, and the check, of one piece."""
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), inputs)  # type: ignore[no-untyped-call]
    with jax.default_matmul_precision("highest"):
        closed = _traced(network, partition, params, mutable, example, ())
        trainable, frozen = partition.split(params)
        leaves = jax.tree.leaves(trainable)
        towards = [d.astype(leaf.dtype) for d, leaf in zip(direction, leaves, strict=True)]
        dtype = wide_dtype(*leaves)
        kernels = [layer.kernel for layer in layers.layers if layer.kernel is not None]
        biases = [x.bias for x in layers.layers if x.kernel is None and x.bias is not None]
        direct = [*biases, *layers.diagonal]
        found = taps.uses(closed, len(leaves), indices=False)
        zeros = [jnp.zeros(found[place].tap.shape, found[place].tap.dtype) for place in kernels]

        def point(example: Tree) -> tuple[jax.Array, jax.Array, jax.Array]:
            rest = jax.tree.leaves((frozen, mutable, example))
            matrices: dict[int, taps.Matrix] = {}

            def tapped(added: list[jax.Array], own: list[jax.Array]) -> tuple[jax.Array, Any]:
                values = list(leaves)
                for place, value in zip(direct, own, strict=True):
                    values[place] = value
                along = {place: towards[place] for place in kernels}
                given = dict(zip(kernels, added, strict=True))
                outputs, seen, forms = taps.run(closed, [*values, *rest], given, along)
                matrices.update(forms)
                return outputs, [seen[place] for place in kernels]

            outputs, pull, seen = jax.vjp(
                tapped, zeros, [leaves[place] for place in direct], has_aux=True
            )
            columns = _columns(likelihood, outputs)
            pulled, rows = jax.vmap(pull)(columns)
            gradients = {
                place: jax.vmap(matrices[place])(gradient)
                for place, gradient in zip(kernels, pulled, strict=True)
            }
            others = {
                place: row.reshape(len(columns), -1)
                for place, row in zip(direct, rows, strict=True)
            }
            (pushed,) = jax.jvp(
                lambda values: jaxpr_as_fun(closed)(*values, *rest)[0],
                (leaves,),
                (towards,),
            )[1:]
            inputs_of = dict(zip(kernels, seen, strict=True))
            expected, scale = _along(layers, inputs_of, gradients, others, towards)
            missed = jnp.abs(columns @ pushed - expected)
            limit = _ROUNDINGS * coarsest_eps(closed.jaxpr) * scale
            error = jnp.max(jnp.where(missed == 0, 0, missed / limit), initial=0)
            parts = _parts(layers, inputs_of, gradients, others, dtype, likelihood is not None)
            return outputs, jnp.concatenate(parts), error

        outputs, block, error = jax.vmap(point)(inputs)
    return PassResult(
        outputs=outputs,
        block=block,
        inputs_finite=all_finite(inputs),
        outputs_finite=all_finite(outputs),
        block_finite=all_finite(block),
        structure_error=jnp.max(error).astype(jnp.float32),
    )


def _columns(likelihood: Likelihood | None, outputs: jax.Array) -> jax.Array:
    """What is pulled back, one row each: unit vectors, or columns of a root of the curvature.

    Of more than `MAX_COLUMNS` so many sums under random signs, whose products have the right mean.
    The signs of a point are seeded by its outputs, so that no batch plays a part.
    """
    if likelihood is None:
        return jnp.eye(len(outputs), dtype=outputs.dtype)
    root = likelihood.curvature_root(outputs[None])[0].T.astype(outputs.dtype)
    if len(root) <= MAX_COLUMNS:
        return root
    bits = jax.lax.bitcast_convert_type(outputs.astype(jnp.float32), jnp.uint32)
    key = jax.random.fold_in(jax.random.key(0), jnp.sum(bits, dtype=jnp.uint32))
    signs = jax.random.rademacher(key, (MAX_COLUMNS, len(root)), dtype=outputs.dtype)
    return signs @ root / math.sqrt(MAX_COLUMNS)


def _along(
    layers: Layers,
    inputs: dict[int, tuple[jax.Array, jax.Array]],
    gradients: dict[int, jax.Array],
    others: dict[int, jax.Array],
    towards: list[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Products with the Jacobian along a direction, by the layers, and how large such sums are."""
    total, squares = jnp.zeros(()), jnp.zeros(())
    for layer in layers.layers:
        if layer.kernel is None:
            continue
        (values, kernel), gradient = inputs[layer.kernel], gradients[layer.kernel]
        moved, size = values @ kernel, values**2 @ kernel**2
        if layer.bias is not None:
            moved, size = moved + towards[layer.bias], size + towards[layer.bias] ** 2
        total = total + jnp.einsum("rso,so->r", gradient, moved)
        squares = squares + jnp.einsum("rso,so->r", gradient**2, size)
    for place, rows in others.items():
        own = towards[place].reshape(-1)
        total, squares = total + rows @ own, squares + rows**2 @ own**2
    return total, jnp.sqrt(squares)


def _parts(
    layers: Layers,
    inputs: dict[int, tuple[jax.Array, jax.Array]],
    gradients: dict[int, jax.Array],
    others: dict[int, jax.Array],
    dtype: Any,
    fitting: bool,
) -> list[jax.Array]:
    """What `Layers.parts` takes apart.

    Where an example has one loss and a layer several positions, a fit takes the mean of its inputs
    and the sum of its gradients (the "reduce" rule of Eschenhagen et al., 2023).
    """
    parts = []
    for layer in layers.layers:
        if layer.kernel is None:
            assert layer.bias is not None
            parts += [jnp.ones(1, dtype), others[layer.bias].reshape(-1).astype(dtype)]
            continue
        values, gradient = inputs[layer.kernel][0].astype(dtype), gradients[layer.kernel]
        gradient = gradient.astype(dtype)
        if layer.bias is not None:
            values = jnp.concatenate([values, jnp.ones((len(values), 1), dtype)], axis=1)
        if layer.shared and not fitting:
            parts.append(jnp.einsum("rso,sd->rod", gradient, values).reshape(-1))
        else:
            parts += [jnp.mean(values, axis=0), jnp.sum(gradient, axis=1).reshape(-1)]
    rest = [others[place].astype(dtype) for place in layers.diagonal]
    if rest:
        rows = jnp.concatenate(rest, axis=1)
        parts.append(jnp.sqrt(jnp.sum(rows**2, axis=0)) if fitting else rows.reshape(-1))
    return parts


_layers_program = NetworkProgram(_layered, static=("partition", "layers"))


@dataclass(frozen=True, eq=False)
class LayersPass:
    """The pass that gives the inputs and Jacobians of layers, for pieces of any batch.

    Attributes
    ----------
    subset, layers
        The network, and what its trainable leaves are.
    likelihood : Likelihood or None
        A fit has a root of its curvature times the Jacobian; a prediction (None) the Jacobian.
    direction : sequence of arrays
        Along which the structure is checked, one like each trainable leaf.
    rows : int
        Columns of that root, or outputs ``C``.
    """

    subset: Subset
    layers: Layers
    likelihood: Likelihood | None
    direction: Sequence[jax.Array]
    rows: int

    @property
    def point_numbers(self) -> int:
        """Numbers that one example takes, those on the way too."""
        fitting = self.likelihood is not None
        block = sum(map(sum, self.layers.widths(self.rows, fitting=fitting)))
        return block + self.rows * self.layers.diagonal_size

    @property
    def max_points(self) -> int:
        """Examples of a piece, whose numbers take about `CHUNK_BYTES`."""
        itemsize: int = wide_dtype(*jax.tree.leaves(self.subset.trainable)).itemsize
        return max(1, min(MAX_POINTS, CHUNK_BYTES // (itemsize * self.point_numbers)))

    def __call__(self, inputs: Tree, size: int) -> PassResult:
        """Dispatch one piece; examples from `size` on are padding, which the reader drops."""
        subset = self.subset
        result: PassResult = _layers_program(
            subset.network,
            subset.partition,
            self.layers,
            self.likelihood,
            subset.params,
            subset.mutable,
            subset.devices.split(inputs),
            list(self.direction),
        )
        return result


def check_direction(subset: Subset) -> list[jax.Array]:
    """Random directions of the trainable leaves, always the same."""
    generator = np.random.default_rng(0)
    return [
        subset.devices.whole(
            jnp.asarray(generator.choice(np.asarray([-1.0, 1.0], np.float32), leaf.shape))
        )
        for leaf in jax.tree.leaves(subset.trainable)
    ]
