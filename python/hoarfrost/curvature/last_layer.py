"""The leaves of the last Dense layer, found by computing: names play no part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.curvature.head import MAX_POINTS, find_head
from hoarfrost.curvature.layout import matrix_shape
from hoarfrost.data.pieces import cut, piece_size
from hoarfrost.data.positions import examples_at_once
from hoarfrost.devices import ANYWHERE, Devices
from hoarfrost.errors import SelectionError
from hoarfrost.freezing import Partition, Subset, make_partition
from hoarfrost.network import Network
from hoarfrost.types import Path, Tree, join, path_of


def last_layer(
    network: Network, params: Tree, mutable: Tree, inputs: Tree, devices: Devices = ANYWHERE
) -> Partition:
    """The partition in which a last layer is trainable and all else frozen.

    A leaf with two axes, one of them as long as the outputs, is tried with each leaf beside it that
    could be its bias, and without one, until the outputs are a plain Dense layer of those leaves.

    Parameters
    ----------
    network, params, mutable
        As `hoarfrost.network.as_network` gives them.
    inputs : array or tree of arrays
        Some points, on which the structure shows.
    devices : Devices
        Where the parameters are.

    Raises
    ------
    SelectionError
        If no such layer is found, or several are.
    """
    # Networks from elsewhere have whole numbers among their parameters, which nobody trains.
    whole = Subset(network, make_partition(params, _is_floating), params, mutable, devices)
    shape = whole.output_shape(inputs)
    found: list[tuple[Path, ...]] = []
    if len(shape) >= 2:
        # The same piece that a fit looks at.
        size = piece_size(shape[0], examples_at_once(MAX_POINTS, shape[1:-1]))
        size = devices.rows(size)
        inputs, shape = cut(inputs, 0, size, min(size, shape[0])), (size, *shape[1:])
        shapes = {
            path_of(key): matrix_shape(tuple(np.shape(leaf)), shape[1:-1])
            for key, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
        }
        for kernel, own in shapes.items():
            if len(own) == 2 and shape[-1] in own:
                layer = _layer_of(kernel, shapes, whole, inputs, shape)
                found += [] if layer is None else [layer]
    if len(found) == 1:
        return _only(params, found[0])
    said = "none" if not found else "several: " + "; ".join(", ".join(map(join, f)) for f in found)
    raise SelectionError(
        "trainable is 'last_layer', the leaves of a Dense layer that gives the outputs as they "
        f"are, and the network has {said}; give a function (path, value) that chooses the leaves"
    )


def _layer_of(
    kernel: Path,
    shapes: dict[Path, tuple[int, ...]],
    whole: Subset,
    inputs: Tree,
    output_shape: tuple[int, ...],
) -> tuple[Path, ...] | None:
    for paths in _tried(kernel, shapes, output_shape[-1]):
        partition = _only(whole.params, paths)
        subset = replace(whole, partition=partition)
        if find_head(subset, inputs, output_shape) is not None:
            return paths
    return None


def _tried(
    kernel: Path, shapes: dict[Path, tuple[int, ...]], num_outputs: int
) -> Iterator[tuple[Path, ...]]:
    """A kernel with each leaf beside it that could be its bias, then alone."""
    for path, shape in shapes.items():
        if path[:-1] == kernel[:-1] and shape == (num_outputs,):
            yield kernel, path
    yield (kernel,)


def _is_floating(path: Path, value: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(value), jnp.floating))


def _only(params: Tree, paths: tuple[Path, ...]) -> Partition:
    def chosen(path: Path, value: Any) -> bool:
        return path in paths

    return make_partition(params, chosen)
