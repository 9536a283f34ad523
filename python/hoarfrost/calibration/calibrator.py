"""A Flax module that maps outputs to outputs, as a pure function."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.fork import check_not_forked
from hoarfrost.network import LinenNetwork
from hoarfrost.types import Tree


@dataclass(frozen=True)
class OutputCalibrator:
    """A module that is applied to the outputs of a network; hashable, so static in a program.

    Parameters
    ----------
    module : flax.linen.Module
        Maps outputs ``(B, C)`` to outputs of the same shape. It may have parameters and no other
        collection.

    Raises
    ------
    InvalidArgumentError
        If `module` is no instance of a Flax module.
    """

    module: nn.Module

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise InvalidArgumentError(
                f"output_calibrator is {self.module!r}; give an instance of a flax.linen.Module "
                "that maps outputs to outputs, such as ClassificationTemperatureScaler(), or None"
            )

    def __hash__(self) -> int:
        return hash((type(self), self.network))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OutputCalibrator):
            return NotImplemented
        return self.network == other.network

    @property
    def network(self) -> LinenNetwork:
        """The module as a network whose inputs are outputs."""
        return LinenNetwork(self.module)

    def init(self, num_outputs: int, key: jax.Array) -> Tree:
        """Initial variables, ``{"params": ...}``.

        Raises
        ------
        InvalidArgumentError
            If the module has no parameters, or other collections than "params".
        ShapeError
            If it changes the shape of the outputs.
        """
        check_not_forked("calibration")
        variables = dict(self.module.init(key, jnp.zeros((1, num_outputs), jnp.float32)))
        if set(variables) != {"params"}:
            raise InvalidArgumentError(
                f"output_calibrator {type(self.module).__name__} has the collections "
                f"{sorted(variables)}; it must have parameters, and those alone"
            )
        like = jax.ShapeDtypeStruct((1, num_outputs), jnp.float32)  # type: ignore[no-untyped-call]
        evaluate = functools.partial(self.network.evaluate, variables, {})
        shape = jax.eval_shape(evaluate, like).shape
        if shape != (1, num_outputs):
            raise ShapeError(
                f"output_calibrator {type(self.module).__name__} turns outputs of shape "
                f"{(1, num_outputs)} into {shape}; it must keep the shape"
            )
        return variables

    def __call__(self, variables: Tree, outputs: jax.Array) -> jax.Array:
        """Calibrated outputs of S samples and B points, shape ``(S, B, C)``."""
        check_not_forked("calibration")
        return jax.vmap(lambda one: self.network.evaluate(variables, {}, one))(outputs)
