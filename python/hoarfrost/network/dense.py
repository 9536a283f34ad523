"""A last Dense layer by itself: a network of the layer's inputs, over the whole network's tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from hoarfrost.dtypes import wide_dtype
from hoarfrost.errors import ShapeError
from hoarfrost.types import Path, Tree

# What a batch holds where something that is not trained is added to the layer's outputs.
INPUTS, OFFSET = "inputs", "offset"


@dataclass(frozen=True)
class DenseLayer:
    """Where the leaves of a last Dense layer sit among all parameters, in tree order.

    Attributes
    ----------
    num_leaves : int
        Of the whole tree.
    kernel, bias : int or None
        Which of them are the layer's trainable ones.
    output_axis : int
        Which axis of the kernel runs over the outputs.
    num_inputs, num_outputs : int
        ``D`` and ``C``.
    dtype : str
        Of the outputs.
    """

    num_leaves: int
    kernel: int | None
    bias: int | None
    output_axis: int
    num_inputs: int
    num_outputs: int
    dtype: str

    @property
    def mask(self) -> tuple[bool, ...]:
        """Whether each leaf is trainable."""
        return tuple(i in (self.kernel, self.bias) for i in range(self.num_leaves))


@dataclass(frozen=True, eq=False)
class Origin:
    """What features are of.

    Attributes
    ----------
    layer : DenseLayer
        Whose inputs they are.
    names : tuple of str
        Of the layer's leaves, for errors.
    fingerprint : str
        Of the program and the frozen parameters that computed them.
    point : tree of jax.ShapeDtypeStruct
        One input of the whole network, leading axis 1.
    """

    layer: DenseLayer
    names: tuple[str, ...]
    fingerprint: str
    point: Tree


@dataclass(frozen=True)
class DenseNetwork:
    """The layer as a network: inputs ``(B, ..., D)``, the parameters those of the whole network.

    Inputs are an array, or a dict of "inputs" and an "offset" ``(B, ..., C)`` that is added. It has
    one mode. What is frozen, and the collections, it hands on and never reads.
    """

    layer: DenseLayer

    @property
    def owner(self) -> None:
        """None: it holds no array."""
        return None

    @property
    def unowned(self) -> DenseNetwork:
        """Itself."""
        return self

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """``inputs @ kernel + bias + offset``, shape ``(B, ..., C)``.

        Raises
        ------
        ShapeError
            If the inputs are not those of the layer.
        """
        layer, leaves = self.layer, jax.tree.leaves(params)
        offset = inputs[OFFSET] if isinstance(inputs, Mapping) else None
        features = inputs[INPUTS] if isinstance(inputs, Mapping) else inputs
        if features.ndim < 2 or features.shape[-1] != layer.num_inputs:
            raise ShapeError(
                f"inputs have shape {tuple(features.shape)}, and those of the layer are "
                f"(B, {layer.num_inputs}), or with axes of positions between the two"
            )
        own = [leaves[place] for place in (layer.kernel, layer.bias) if place is not None]
        dtype = wide_dtype(features, *own)
        outputs = jnp.zeros((*features.shape[:-1], layer.num_outputs), dtype)
        if layer.kernel is not None:
            shape = layer.num_inputs, layer.num_outputs
            kernel = leaves[layer.kernel].astype(dtype)
            kernel = (
                kernel.reshape(shape) if layer.output_axis == 1 else kernel.reshape(shape[::-1]).T
            )
            outputs = features.astype(dtype) @ kernel
        if layer.bias is not None:
            bias = leaves[layer.bias].reshape(-1).astype(dtype)
            outputs = outputs + jnp.broadcast_to(bias, outputs.shape)
        if offset is not None:
            outputs = outputs + offset.astype(dtype)
        return outputs.astype(layer.dtype)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """As `evaluate`: a layer has one mode and uses no key."""
        return self.evaluate(params, mutable, inputs), mutable

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """All that it is given is parameters."""
        return variables, {}

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """The parameters."""
        return params

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Nothing in it waits for another mode."""
        return ()

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """It moves nothing."""
        return (False,) * len(jax.tree.leaves(mutable))
