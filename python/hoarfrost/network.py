"""One pure function out of a Flax module or a plain function.

A network is a small frozen object, hashable, so that it can be a static argument of a jitted
program; everything that changes (parameters, running statistics, inputs, keys) is passed as an
argument. Parameters live in ``params``; every other collection of a module (``batch_stats``, ...)
lives in ``mutable``, an empty dict where there is none.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hoarfrost.errors import InvalidArgumentError, ShapeError

Tree = Any


@runtime_checkable
class Network(Protocol):
    """What the rest of the package asks of a network."""

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(batch, ...)``."""

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode, and the collections as that pass left them."""

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """What a user holds for this network, as ``(params, mutable)``."""


@dataclass(frozen=True, eq=False)
class LinenNetwork:
    """A Linen module as a pure function.

    Parameters
    ----------
    module : flax.linen.Module
        The module; its ``__call__`` gets ``train=True`` or ``train=False`` if it takes ``train``
        (or ``**kwargs``). Of a tuple that it returns, the first item is used.
    bare : bool
        Whether ``params`` is the module's "params" tree itself; otherwise it is
        ``{"params": tree}``.
    """

    module: nn.Module
    bare: bool = False

    def __hash__(self) -> int:
        return hash((type(self), _hash(self.module), self.bare))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinenNetwork):
            return NotImplemented
        return self.bare == other.bare and _same(self.module, other.module)

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs in evaluation mode, shape ``(batch, ...)``."""
        with _explained(self.module, inputs):
            outputs = self.module.apply(
                self._variables(params, mutable), inputs, **_mode(type(self.module), False)
            )
        return _first_array(outputs, self.module)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs in training mode with dropout drawn from `key`, and the new collections."""
        variables, mode = self._variables(params, mutable), _mode(type(self.module), True)
        rngs = {"dropout": key}
        with _explained(self.module, inputs):
            if not mutable:
                outputs = self.module.apply(variables, inputs, rngs=rngs, **mode)
                return _first_array(outputs, self.module), mutable
            outputs, updated = self.module.apply(
                variables, inputs, rngs=rngs, mutable=list(mutable), **mode
            )
        # The containers that came in go out, so that a loop over steps compiles once.
        updated = jax.tree.unflatten(jax.tree.structure(mutable), jax.tree.leaves(updated))
        return _first_array(outputs, self.module), updated

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """Variables ``{"params": ..., "batch_stats": ...}`` as ``(params, mutable)``."""
        if self.bare:
            return variables, {}
        params = {"params": variables["params"]}
        return params, {name: tree for name, tree in variables.items() if name != "params"}

    def _variables(self, params: Tree, mutable: Tree) -> dict[str, Tree]:
        return {**mutable, **({"params": params} if self.bare else params)}


@dataclass(frozen=True, eq=False)
class FunctionNetwork:
    """A function ``apply(params, inputs) -> outputs`` as a network without collections."""

    function: Callable[[Tree, Tree], Any]

    def __hash__(self) -> int:
        return hash((type(self), _hash(self.function)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FunctionNetwork):
            return NotImplemented
        return _same(self.function, other.function)

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """``function(params, inputs)``."""
        return _first_array(self.function(params, inputs), self.function)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """``function(params, inputs)``: a function has one mode and uses no key."""
        return self.evaluate(params, mutable, inputs), mutable

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """All that a function has is parameters."""
        return variables, {}


@dataclass(frozen=True)
class NamedNetwork:
    """A network whose variables sit under a name, as in ``{"model": {"params": ...}}``."""

    name: str
    network: LinenNetwork

    def evaluate(self, params: Tree, mutable: Tree, inputs: Tree) -> jax.Array:
        """Outputs of the named network in evaluation mode."""
        return self.network.evaluate(params[self.name], mutable.get(self.name, {}), inputs)

    def train(
        self, params: Tree, mutable: Tree, inputs: Tree, key: jax.Array
    ) -> tuple[jax.Array, Tree]:
        """Outputs of the named network in training mode, and its new collections."""
        outputs, updated = self.network.train(
            params[self.name], mutable.get(self.name, {}), inputs, key
        )
        return outputs, ({self.name: updated} if mutable else mutable)

    def split(self, variables: Tree) -> tuple[Tree, Tree]:
        """``{name: {"params": ..., "batch_stats": ...}}`` as ``(params, mutable)``."""
        params, mutable = self.network.split(variables[self.name])
        return {self.name: params}, ({self.name: mutable} if mutable else {})


def as_network(model: Any, params: Tree) -> tuple[Network, Tree, Tree]:
    """A model and what it was trained to, as ``(network, params, mutable)``.

    Parameters
    ----------
    model : flax.linen.Module, callable or Network
        A Linen module, a function ``apply(params, inputs)``, or an object of this module.
    params : tree
        For a Linen module its variables (``{"params": ..., "batch_stats": ...}``) or its "params"
        alone; for a function its parameters; for a network what its `split` takes.

    Raises
    ------
    InvalidArgumentError
        If `model` is none of these.
    """
    if isinstance(model, nn.Module):
        whole = isinstance(params, Mapping) and isinstance(params.get("params"), Mapping)
        network: Network = LinenNetwork(model, bare=not whole)
    elif isinstance(model, Network) and not inspect.isclass(model):
        network = model
    elif callable(model) and not inspect.isclass(model):
        network = FunctionNetwork(model)
    else:
        described = f"the class {model.__name__}" if inspect.isclass(model) else repr(model)
        raise InvalidArgumentError(
            f"model is {described}; give an instance of a flax.linen.Module or a function "
            "apply(params, inputs) -> outputs"
        )
    return (network, *network.split(params))


def init_linen(
    module: nn.Module, inputs: Tree, params_key: jax.Array, dropout_key: jax.Array
) -> dict[str, Tree]:
    """Initial variables of a Linen module, compiled once for each module and shape.

    Parameters
    ----------
    module : flax.linen.Module
        The module to initialise.
    inputs : array or tree of arrays
        A batch of inputs, of which only the shapes beyond axis 0 and the dtypes are used: the
        module sees one point of zeros. A tuple of ints stands for the shape of one point.
    params_key, dropout_key : jax.Array
        Keys of the "params" and "dropout" streams.

    Returns
    -------
    dict
        ``{"params": ..., ...}``, every collection of the module.
    """
    if isinstance(inputs, tuple) and all(isinstance(size, int) for size in inputs):
        leaves, structure = [(inputs, "float32")], jax.tree.structure(0)
    else:
        arrays, structure = jax.tree.flatten(inputs)
        leaves = [(x.shape[1:], str(jax.dtypes.canonicalize_dtype(x.dtype))) for x in arrays]
    return dict(_init(LinenNetwork(module), structure, tuple(leaves), params_key, dropout_key))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _init(
    network: LinenNetwork,
    structure: Any,
    points: tuple[tuple[tuple[int, ...], str], ...],
    params_key: jax.Array,
    dropout_key: jax.Array,
) -> Tree:
    inputs = jax.tree.unflatten(structure, [jnp.zeros((1, *s), d) for s, d in points])
    rngs = {"params": params_key, "dropout": dropout_key}
    return network.module.init(rngs, inputs, **_mode(type(network.module), False))


@contextlib.contextmanager
def _explained(module: nn.Module, inputs: Tree) -> Iterator[None]:
    """Flax's complaint about parameters that do not fit, as an error of ours that says what to do.

    It is raised while a program is traced, so the guard costs nothing where things fit.
    """
    try:
        yield
    except (
        flax.errors.ScopeParamShapeError,
        flax.errors.ScopeParamNotFoundError,
        flax.errors.ScopeCollectionNotFound,
    ) as error:
        shapes = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(inputs))
        raise ShapeError(
            f"{type(module).__name__} cannot take inputs of shape {shapes} with the parameters "
            "that it was given: axis 0 must run over the points and the others be those that the "
            "parameters were made for, and all variables (also 'batch_stats' and the like) must be "
            f"given. Flax says: {error}"
        ) from error


def _takes_train(module: type[nn.Module]) -> bool:
    # A Sequential takes any keyword, only to hand it to its first layer, which need not take it.
    if issubclass(module, nn.Sequential):
        return False
    parameters = inspect.signature(module.__call__).parameters.values()
    return any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters)


def _mode(module: type[nn.Module], train: bool) -> dict[str, Any]:
    return {"train": train} if _takes_train(module) else {}


def _first_array(outputs: Any, model: Any) -> jax.Array:
    if isinstance(outputs, tuple) and outputs:
        outputs = outputs[0]
    if not hasattr(outputs, "shape"):
        raise InvalidArgumentError(
            f"the model {_name(model)} returned {type(outputs).__name__}; it must return an array "
            "of shape (batch, outputs), or a tuple whose first item is one"
        )
    array: jax.Array = outputs
    return array


def _name(model: Any) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", repr(model))


def _hash(value: Any) -> int:
    # A module with a list or an array among its attributes has no hash: then its identity counts.
    try:
        return hash(value)
    except TypeError:
        return id(value)


def _same(first: Any, second: Any) -> bool:
    if first is second:
        return True
    try:
        hash(first), hash(second)
    except TypeError:
        return False
    return bool(first == second)
