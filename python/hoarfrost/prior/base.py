"""What a prior is: the base of a user's own, and how training asks for its density."""

from __future__ import annotations

import abc
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import shown
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.types import Tree


class Prior(abc.ABC):
    """Base of a prior of your own over all parameters.

    A subclass defines two methods. MAP training, and whatever else needs no more than a density,
    takes it; a Laplace posterior needs a Gaussian prior and refuses it. ``log_joint_prob(params)``
    is called while a program is compiled, so it is written in JAX; the numbers and arrays that the
    object holds are part of the program, which is compiled again where they have changed.
    """

    def __init_subclass__(cls, *, numbers: tuple[str, ...] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        if numbers:
            # Arguments of a jitted program, not constants: another value compiles nothing again.
            jax.tree_util.register_pytree_node(
                cls,
                lambda prior: (tuple(getattr(prior, name) for name in numbers), None),
                functools.partial(_made, cls, numbers),
            )
        else:
            jax.tree_util.register_pytree_node(cls, _flatten, _unflatten)

    @abc.abstractmethod
    def log_joint_prob(self, params: Tree) -> jax.Array:
        """Log-density of all parameters together, constants included, a scalar."""

    @abc.abstractmethod
    def sample(self, params_like: Tree, rng: jax.Array | None = None) -> Tree:
        """A draw with the structure, shapes and dtypes of `params_like`."""


def check_prior(prior: Any) -> None:
    """Raise `InvalidArgumentError` unless `prior` is a `Prior`."""
    if not isinstance(prior, Prior):
        raise InvalidArgumentError(
            f"prior is {prior!r}; give IsotropicGaussianPrior(log_var), "
            "DiagonalGaussianPrior(log_var), or an object of your own subclass of "
            "hoarfrost.prior.Prior"
        )


def log_prior_density(prior: Prior, params: Tree) -> jax.Array:
    """What the prior says of all parameters, a scalar.

    Raises
    ------
    ShapeError
        If it says more than one number.
    InvalidArgumentError
        If it says none, or one without a gradient.
    """
    name, said = type(prior).__name__, prior.log_joint_prob(params)
    number = isinstance(said, float | np.floating | np.ndarray | jax.Array)
    if not number or not jnp.issubdtype(jnp.result_type(said), np.floating):
        raise InvalidArgumentError(
            f"{name}.log_joint_prob gives {shown(said)}; it must be one floating-point number, the "
            "sum over all parameters"
        )
    density = jnp.asarray(said)
    if density.shape != ():
        raise ShapeError(
            f"{name}.log_joint_prob gives shape {density.shape}; it must be one number, the sum "
            "over all parameters"
        )
    return density


class _Held:
    """A user's prior as a static part of a program, equal to one of the same class and values."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self.values = (type(prior), _values(vars(prior)))

    def __hash__(self) -> int:
        return hash(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.values == other.values


def _made(cls: Any, names: tuple[str, ...], _: None, values: tuple[Any, ...]) -> Any:
    """A prior of what JAX puts in, which may be a tracer: unchecked."""
    made = object.__new__(cls)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def _flatten(prior: Prior) -> tuple[tuple[()], _Held]:
    return (), _Held(prior)


def _unflatten(held: _Held, _: tuple[()]) -> Prior:
    return held.prior


def _values(value: Any) -> Any:
    """What an object holds, hashable: numbers of arrays, items of containers, others themselves."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        return "array", array.shape, str(array.dtype), array.tobytes()
    if isinstance(value, dict):
        return "dict", tuple((key, _values(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_values, value))
    if isinstance(value, set):
        return "set", frozenset(map(_values, value))
    if isinstance(value, bool | int | float | str | bytes | None):
        return type(value), value
    by_identity: bool = getattr(type(value), "__hash__", None) is object.__hash__
    if by_identity and hasattr(value, "__dict__") and not callable(value):
        return value, _values(vars(value))
    try:
        hash(value)
    except TypeError:
        return type(value), repr(value)
    return type(value), value
