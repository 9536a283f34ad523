"""A linear model, and outputs that no input changes, in NNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hoarfrost.checks import check_counts
from hoarfrost.model.arguments import ModuleDef, check_shape
from hoarfrost.model.hyper import check_vector
from hoarfrost.model.scalar_hyper import check_scalar


class LinearModel(nnx.Module):  # type: ignore[misc]
    """One Linear layer, "last", ``(B, D) -> (B, output_dim)``.

    Parameters
    ----------
    input_shape : sequence of int
        ``(D,)``.
    output_dim : int
        How many outputs a point has.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(self, input_shape: Sequence[int], output_dim: int, *, rngs: nnx.Rngs) -> None:
        check_counts(output_dim=output_dim)
        features = math.prod(check_shape(input_shape, 1, "(features,)"))
        self.last = nnx.Linear(features, output_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``."""
        return self.last(x)


class ConstantModel(nnx.Module):  # type: ignore[misc]
    """The parameter "constant" for every input, ``(B, ...) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has, and parameters the model.
    initializer_fun : callable
        An initialiser of `flax.nnx.initializers`.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self,
        output_dim: int,
        initializer_fun: ModuleDef = nnx.initializers.zeros,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim)
        self.constant = nnx.Param(initializer_fun(rngs.params(), (output_dim,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``, equal in all rows."""
        constant = self.constant[...]
        return jnp.broadcast_to(constant[None, :], (x.shape[0], constant.shape[0]))


class ScalarConstantModel(nnx.Module):  # type: ignore[misc]
    """The parameter "scalar", shape ``(1,)``, for every output, ``(B, ...) -> (B, output_dim)``.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    initializer_fun : callable
        An initialiser of `flax.nnx.initializers`.
    rngs : flax.nnx.Rngs
        Where initial values come from.
    """

    def __init__(
        self,
        output_dim: int,
        initializer_fun: ModuleDef = nnx.initializers.zeros,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        check_counts(output_dim=output_dim)
        self.output_dim = output_dim
        self.scalar = nnx.Param(initializer_fun(rngs.params(), (1,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``, all equal."""
        return jnp.broadcast_to(self.scalar[...][None, :], (x.shape[0], self.output_dim))


class HyperparameterModel(nnx.Module):  # type: ignore[misc]
    """A given vector for every input, ``(B, ...) -> (B, len(value))``.

    It has one parameter without numbers, "none", so that it has a tree of parameters.

    Parameters
    ----------
    value : array
        The outputs of each point, shape ``(C,)``.

    Raises
    ------
    InvalidArgumentError
        If `value` is not a vector of finite numbers.
    """

    def __init__(self, value: Any) -> None:
        check_vector(value)
        self.value = tuple(float(number) for number in np.asarray(value))
        self.none = nnx.Param(jnp.zeros((0,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, C)``, equal in all rows."""
        value = jnp.asarray(self.value)
        return jnp.broadcast_to(value[None, :], (x.shape[0], value.shape[0]))


class ScalarHyperparameterModel(nnx.Module):  # type: ignore[misc]
    """A given number for every output, ``(B, ...) -> (B, output_dim)``.

    It has one parameter without numbers, "none", so that it has a tree of parameters.

    Parameters
    ----------
    output_dim : int
        How many outputs a point has.
    value : float
        Each of them.

    Raises
    ------
    InvalidArgumentError
        If `value` is not a finite number.
    """

    def __init__(self, output_dim: int, value: float) -> None:
        check_counts(output_dim=output_dim)
        check_scalar(value)
        self.output_dim, self.value = output_dim, float(value)
        self.none = nnx.Param(jnp.zeros((0,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, output_dim)``, all equal."""
        return jnp.full((x.shape[0], self.output_dim), self.value)
