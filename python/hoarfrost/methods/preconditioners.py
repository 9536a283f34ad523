"""Diagonal preconditioners of stochastic-gradient samplers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hoarfrost.checks import check_number, check_probability, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.types import Tree


class Preconditioner(NamedTuple):
    """A diagonal matrix that gradients and noise of a sampler are scaled by.

    Attributes
    ----------
    init : callable (trainable) -> state
        Before the first step.
    update : callable (state, gradient) -> state
        After each gradient of the log joint density.
    root : callable (state, like) -> tree
        The root S of the diagonal, a tree like the trainable one.
    """

    init: Callable[[Tree], Tree]
    update: Callable[[Tree, Tree], Tree]
    root: Callable[[Tree, Tree], Tree]


def identity_preconditioner() -> Preconditioner:
    """No preconditioning: the unit matrix."""
    return _IDENTITY


def rmsprop_preconditioner(
    running_average_factor: float = 0.99, eps: float = 1.0e-7
) -> Preconditioner:
    """The inverse root of a running mean of squared gradients (Li et al., 2016).

    The diagonal is ``1 / (eps + sqrt(v))``. The drift that its own change adds to a sampler's
    density is left out, as is usual: with the running average slow it is small.

    Parameters
    ----------
    running_average_factor : float
        How much of the mean stays at each step, between 0 and 1.
    eps : float
        Added to the root, above 0.

    Raises
    ------
    InvalidArgumentError
        If either is out of range.
    """
    factor = check_probability("running_average_factor", running_average_factor)
    return _RMSprop(factor, check_number("eps", eps, positive=True)).preconditioner()


def check_preconditioner(value: Any) -> None:
    """Raise `InvalidArgumentError` unless it is a preconditioner, or None for the unit matrix."""
    if value is not None and not isinstance(value, Preconditioner):
        raise InvalidArgumentError(
            f"preconditioner is {shown(value)}; give identity_preconditioner(), "
            "rmsprop_preconditioner(), or a hoarfrost.methods.preconditioners.Preconditioner"
        )


def _nothing(trainable: Tree) -> Tree:
    return ()


def _unchanged(state: Tree, gradient: Tree) -> Tree:
    return state


def _ones(state: Tree, like: Tree) -> Tree:
    return jax.tree.map(jnp.ones_like, like)


_IDENTITY = Preconditioner(_nothing, _unchanged, _ones)


class _RMSprop(NamedTuple):
    """Bound methods of equal tuples are equal, so that no program is compiled twice for them."""

    factor: float
    eps: float

    def preconditioner(self) -> Preconditioner:
        return Preconditioner(self.init, self.update, self.root)

    def init(self, trainable: Tree) -> Tree:
        return jax.tree.map(jnp.zeros_like, trainable)

    def update(self, state: Tree, gradient: Tree) -> Tree:
        keep = self.factor
        return jax.tree.map(lambda v, g: keep * v + (1 - keep) * g * g, state, gradient)

    def root(self, state: Tree, like: Tree) -> Tree:
        return jax.tree.map(lambda v: 1 / jnp.sqrt(self.eps + jnp.sqrt(v)), state)
