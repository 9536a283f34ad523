"""What the rest of the package asks of a network.

A network is a small frozen object, hashable, so that it can be a static argument of a jitted
program; everything that changes (parameters, running statistics, inputs, keys) is passed as an
argument. Parameters live in ``params``; every other collection of a module (``batch_stats``, ...)
lives in ``mutable``, an empty dict where there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import HoarfrostError, InvalidArgumentError, ShapeError
from hoarfrost.types import Path, Tree, join, path_of


@runtime_checkable
class Network(Protocol):
    """A pure function of parameters and inputs, in evaluation and in training mode."""

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(batch, ...)``."""

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode, and the collections as that pass left them."""

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """What a user holds for this network, as ``(params, mutable)``."""

    def join(self, params: Tree, mutable: Tree) -> Tree:
        """What a user holds for this network again, from ``(params, mutable)``."""

    @property
    def owner(self) -> object | None:
        """What compiled programs must not outlive, as it may hold arrays; None where nothing may.

        It can be referred to weakly.
        """

    @property
    def unowned(self) -> Network:
        """The same network for a program, which does not keep `owner` alive."""

    def idle_in_training(self, params: Tree, mutable: Tree, inputs: Tree) -> tuple[str, ...]:
        """Layers with a training mode that `train` does not put into it, for a warning."""

    def moving(self, trainable: Mapping[Path, bool], mutable: Tree) -> tuple[bool, ...]:
        """Which leaves of `mutable` training updates, in tree order.

        `trainable` says for the path of each parameter whether it is trained.
        """


def first_array(outputs: Any, name: str) -> jax.Array:
    """The outputs of a model called `name`: an array, or the first item of a tuple.

    Raises
    ------
    InvalidArgumentError
        If that is no array.
    """
    if isinstance(outputs, tuple) and outputs:
        outputs = outputs[0]
    if not hasattr(outputs, "shape"):
        raise InvalidArgumentError(
            f"the model {name} returned {type(outputs).__name__}; it must return an array "
            "of shape (batch, outputs), or a tuple whose first item is one"
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise InvalidArgumentError(
            f"the model {name} returned outputs of dtype {outputs.dtype}; they must be real "
            "floating-point numbers (logits rather than labels)"
        )
    array: jax.Array = outputs
    return array


def check_rows(
    shape: tuple[int, ...],
    size: int,
    num_outputs: int | None = None,
    positions: tuple[int, ...] = (),
) -> None:
    """Raise `ShapeError` unless outputs for `size` points are ``(size, *positions, C)``."""
    if shape[:-1] != (size, *positions) or num_outputs not in (None, shape[-1]):
        wanted = ", ".join(map(str, (size, *positions, num_outputs or "outputs")))
        raise ShapeError(
            f"the network's outputs have shape {tuple(shape)} for {size} points; they must be "
            f"({wanted}): give inputs of the shape that the network was made for, axis 0 "
            "over the points"
        )


@contextlib.contextmanager
def explained(name: str, params: Tree, inputs: Tree) -> Iterator[None]:
    """What goes wrong inside the model called `name`, as an error of ours with what it was given.

    It is raised while a program is traced, so the guard costs nothing where things fit.
    """
    try:
        yield
    except HoarfrostError:
        raise
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        if isinstance(error, jax.errors.TracerArrayConversionError) and _is_row(inputs):
            raise InvalidArgumentError(
                f"the model {name} cannot take inputs that are a {type(inputs).__name__} of "
                f"{len(inputs)} arrays, {_shapes(inputs)}: if it takes one array, give inputs "
                "alone, without targets; if it takes several, "
                f"let it use jnp instead of NumPy. JAX says: {error}"
            ) from error
        raise InvalidArgumentError(
            f"the model {name} cannot be compiled: it asks in Python for numbers that are known "
            "only when the program runs; use jnp.where, jax.lax.cond or jnp instead of if and "
            f"NumPy. JAX says: {error}"
        ) from error
    except (TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise ShapeError(
            f"the model {name} cannot take inputs of shape {_shapes(inputs)} with parameters of "
            f"shape {_shapes(params)}: axis 0 of the inputs must run over the points, and the "
            f"others be those that the parameters were made for. It says: {error}"
        ) from error
    except KeyError as error:
        raise InvalidArgumentError(
            f"the model {name} asks for {error}, which its parameters or inputs do not have: "
            f"parameters of shape {_shapes(params)}, inputs of shape {_shapes(inputs)}"
        ) from error


def _is_row(inputs: Tree) -> bool:
    """Whether inputs are arrays in a row, which a layer takes for rows of one array."""
    return isinstance(inputs, tuple | list) and len(inputs) > 1


def _shapes(tree: Tree) -> str:
    """The shapes of a tree's first leaves, with their paths where there are several."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    if len(leaves) == 1 and not leaves[0][0]:
        return str(tuple(np.shape(leaves[0][1])))
    named = [f"{join(path_of(path))} {tuple(np.shape(leaf))}" for path, leaf in leaves[:8]]
    return "{" + ", ".join(named) + (", ...}" if len(leaves) > 8 else "}")
