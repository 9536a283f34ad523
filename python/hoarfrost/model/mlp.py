"""Multi-layer perceptrons, plain and with residual connections."""

from __future__ import annotations

import jax
from flax import linen as nn

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import (
    Activation,
    ModuleDef,
    check_equal_widths,
    check_rate,
    check_widths,
)
from hoarfrost.model.utils.spectral_norm import normalised


class MLPDeepFeatureExtractorSubNet(nn.Module):  # type: ignore[misc]
    """The hidden layers of a perceptron, ``(B, ...) -> (B, widths[-1])``.

    Inputs are flattened. Each Dense layer, "hidden1", "hidden2", ..., is followed by its activation
    where there is one and by dropout.

    Parameters
    ----------
    widths : tuple of int
        The width of each hidden layer.
    activations : tuple of callables
        The activations after the first layers; that of the last belongs to the output subnet.
    dense, dropout : callable
        The classes of these layers.
    dropout_rate : float
        The share of units that training drops.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    dense: ModuleDef = nn.Dense
    dropout: ModuleDef = nn.Dropout
    dropout_rate: float = 0.0

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features, shape ``(B, widths[-1])``; dropout acts if `train`."""
        dense = normalised(self, self.dense, train)
        dropout = self.dropout(self.dropout_rate)
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = _activated(self.activations, i, dense(width, name=f"hidden{i + 1}")(x))
            x = dropout(x, deterministic=not train)
        return x


class DeepResidualFeatureExtractorSubNet(MLPDeepFeatureExtractorSubNet):
    """The hidden layers of a residual perceptron, ``(B, ...) -> (B, widths[-1])``.

    The first layer is linear, and ``activations[0]`` is not used; each later one is added to its
    inputs, ``x + dropout(activation(W x + b))``. The parameters are those of
    `MLPDeepFeatureExtractorSubNet`.
    """

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Features, shape ``(B, widths[-1])``; dropout acts if `train`."""
        dense = normalised(self, self.dense, train)
        dropout = self.dropout(self.dropout_rate)
        x = dense(self.widths[0], name="hidden1")(x.reshape(x.shape[0], -1))
        for i, width in enumerate(self.widths[1:], start=1):
            y = _activated(self.activations, i, dense(width, name=f"hidden{i + 1}")(x))
            x = x + dropout(y, deterministic=not train)
        return x


class MLPOutputSubNet(nn.Module):  # type: ignore[misc]
    """An activation and the Dense layer "last", ``(B, D) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    activation : callable or None
        What the features go through first.
    dense : callable
        The class of the layer.
    """

    output_dim: int
    activation: Activation | None = None
    dense: ModuleDef = nn.Dense

    @nn.compact  # type: ignore[untyped-decorator]
    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        if self.activation is not None:
            x = self.activation(x)
        return self.dense(self.output_dim, name="last")(x)


class MLP(nn.Module):  # type: ignore[misc]
    """A multi-layer perceptron, ``(B, ...) -> (B, output_dim)``; inputs are flattened.

    Its hidden layers are "dfe_subnet/hidden1" and so on, its last layer "output_subnet/last".

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    widths : tuple of int
        The width of each hidden layer.
    activations : tuple of callables
        The activation after each hidden layer.
    dropout, dense : callable
        The classes of these layers.
    dropout_rate : float
        The share of units that training drops after each hidden layer.

    Raises
    ------
    InvalidArgumentError
        If a size or the rate makes no sense, or there is not one activation a layer.
    """

    output_dim: int
    widths: tuple[int, ...] = (30, 30)
    activations: tuple[Activation, ...] = (nn.relu, nn.relu)
    dropout: ModuleDef = nn.Dropout
    dropout_rate: float = 0.0
    dense: ModuleDef = nn.Dense

    def __post_init__(self) -> None:
        check_counts(output_dim=self.output_dim)
        check_widths(self.widths, self.activations)
        check_rate(self.dropout_rate)
        super().__post_init__()

    def setup(self) -> None:
        """Make the two subnets."""
        self._make(MLPDeepFeatureExtractorSubNet)

    def _make(self, hidden: type[MLPDeepFeatureExtractorSubNet]) -> None:
        self.dfe_subnet = hidden(
            widths=self.widths,
            activations=self.activations[:-1],
            dense=self.dense,
            dropout=self.dropout,
            dropout_rate=self.dropout_rate,
        )
        self.output_subnet = MLPOutputSubNet(self.output_dim, self.activations[-1], self.dense)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``; dropout acts if `train`."""
        return self.output_subnet(self.dfe_subnet(x, train))


class DeepResidualNet(MLP):
    """A perceptron whose hidden layers are added to their inputs, ``(B, ...) -> (B, output_dim)``.

    Parameters and names are those of `MLP`; all `widths` are equal, and ``activations[0]`` is not
    used unless there is one layer alone, as the first layer is linear.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_equal_widths(self.widths)

    def setup(self) -> None:
        """Make the two subnets."""
        self._make(DeepResidualFeatureExtractorSubNet)


def _activated(activations: tuple[Activation, ...], i: int, x: jax.Array) -> jax.Array:
    return activations[i](x) if i < len(activations) else x
