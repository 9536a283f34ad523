"""Multi-layer perceptrons in NNX, plain and with residual connections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import (
    Activation,
    ModuleDef,
    check_equal_widths,
    check_rate,
    check_shape,
    check_widths,
)
from hoarfrost.model.nnx.layers import make_dropout, numbered, set_numbered


class MLPDeepFeatureExtractorSubNet(nnx.Module):  # type: ignore[misc]
    """The hidden layers of a perceptron, ``(B, ...) -> (B, widths[-1])``.

    Inputs are flattened. Each Linear layer, "hidden1", "hidden2", ..., is followed by its
    activation where there is one and by dropout.

    Parameters
    ----------
    in_features : int
        How many numbers a point has.
    widths : sequence of int
        The width of each hidden layer.
    activations : sequence of callables
        The activations after the first layers.
    dense : callable
        The class of the layers.
    dropout_rate : float
        The share of units that training drops.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        activations: Sequence[Activation],
        dense: ModuleDef = nnx.Linear,
        dropout_rate: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.activations = tuple(activations)
        self.depth = len(widths)
        sizes = zip([in_features, *widths], widths, strict=False)
        set_numbered(self, "hidden", [dense(n, m, rngs=rngs) for n, m in sizes], start=1)
        self.dropout = make_dropout(dropout_rate, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features, shape ``(B, widths[-1])``."""
        x = x.reshape(x.shape[0], -1)
        for i, layer in enumerate(numbered(self, "hidden", self.depth, start=1)):
            x = self.dropout(self._activated(i, layer(x)))
        return x

    def _activated(self, i: int, x: jax.Array) -> jax.Array:
        return self.activations[i](x) if i < len(self.activations) else x


class DeepResidualFeatureExtractorSubNet(MLPDeepFeatureExtractorSubNet):
    """The hidden layers of a residual perceptron, ``(B, ...) -> (B, widths[-1])``.

    The first layer is linear, and ``activations[0]`` is not used; each later one is added to its
    inputs, ``x + dropout(activation(W x + b))``.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features, shape ``(B, widths[-1])``."""
        first, *later = numbered(self, "hidden", self.depth, start=1)
        x = first(x.reshape(x.shape[0], -1))
        for i, layer in enumerate(later, start=1):
            x = x + self.dropout(self._activated(i, layer(x)))
        return x


class MLPOutputSubNet(nnx.Module):  # type: ignore[misc]
    """An activation and the Linear layer "last", ``(B, D) -> (B, output_dim)``.

    Parameters
    ----------
    width : int
        D.
    output_dim : int
        How many outputs a point has.
    activation : callable or None
        What the features go through first.
    dense : callable
        The class of the layer.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self,
        width: int,
        output_dim: int,
        activation: Activation | None = None,
        dense: ModuleDef = nnx.Linear,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.activation = activation
        self.last = dense(width, output_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.last(x if self.activation is None else self.activation(x))


class MLP(nnx.Module):  # type: ignore[misc]
    """A multi-layer perceptron, ``(B, ...) -> (B, output_dim)``; inputs are flattened.

    Its hidden layers are "dfe_subnet/hidden1" and so on, its last layer "output_subnet/last".

    Parameters
    ----------
    input_shape : sequence of int
        The shape of one point.
    output_dim : int
        How many outputs a point has.
    widths : sequence of int
        The width of each hidden layer.
    activations : sequence of callables
        The activation after each hidden layer.
    dropout_rate : float
        The share of units that training drops after each hidden layer.
    dense : callable
        The class of the layers.
    rngs : flax.nnx.Rngs
        Where initial values and dropout come from.

    Raises
    ------
    InvalidArgumentError
        If a size or the rate makes no sense, or there is not one activation a layer.
    """

    _hidden = MLPDeepFeatureExtractorSubNet

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        widths: Sequence[int] = (30, 30),
        activations: Sequence[Activation] = (nnx.relu, nnx.relu),
        dropout_rate: float = 0.0,
        dense: ModuleDef = nnx.Linear,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim)
        check_widths(widths, activations)
        check_rate(dropout_rate)
        in_features = math.prod(check_shape(input_shape, 1, "(features,) or any other"))
        self.dfe_subnet = self._hidden(
            in_features, widths, activations[:-1], dense, dropout_rate, rngs=rngs
        )
        self.output_subnet = MLPOutputSubNet(
            widths[-1], output_dim, activations[-1], dense, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.output_subnet(self.dfe_subnet(x))


class DeepResidualNet(MLP):
    """A perceptron whose hidden layers are added to their inputs, ``(B, ...) -> (B, output_dim)``.

    Parameters
    ----------
    input_shape, output_dim, dropout_rate, dense, rngs
        As for `MLP`.
    widths : sequence of int
        The width of each hidden layer, all equal.
    activations : sequence of callables
        The activation after each hidden layer; ``activations[0]`` is not used unless there is one
        layer alone, as the first layer is linear.
    """

    _hidden = DeepResidualFeatureExtractorSubNet

    def __init__(
        self,
        input_shape: Sequence[int],
        output_dim: int,
        widths: Sequence[int] = (30, 30),
        activations: Sequence[Activation] = (nnx.relu, nnx.relu),
        dropout_rate: float = 0.0,
        dense: ModuleDef = nnx.Linear,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_widths(widths, activations)
        check_equal_widths(widths)
        super().__init__(
            input_shape, output_dim, widths, activations, dropout_rate, dense, rngs=rngs
        )
