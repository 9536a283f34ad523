"""Gaussian priors over all parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_key, real_numbers, shown
from hoarfrost.dtypes import is_finite
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.prior.base import Prior
from hoarfrost.prior.mean import array_tree, cut, deviations, mean_tree_of, shifted, sound_mean
from hoarfrost.types import Tree

# Beyond this a variance or a precision is not a number in float64.
_LARGEST_LOG = 700.0


@dataclass(frozen=True, eq=False)
class IsotropicGaussianPrior(Prior, numbers=("log_var", "mean")):
    """A Gaussian with the same variance for every parameter: ``N(mean, exp(log_var))``.

    Parameters
    ----------
    log_var : float
        Logarithm of the prior variance; the prior precision is ``exp(-log_var)``.
    mean : float, vector or tree of arrays
        Mean of every parameter; or one for each, as a vector in the order of
        `jax.flatten_util.ravel_pytree` of the full parameter tree, or as a tree like it (such as
        the parameters of a network that was trained before).

    Raises
    ------
    InvalidArgumentError
        If `log_var` is not a finite number of at most 700 in size, or a mean is not finite.
    """

    log_var: float = 0.0
    mean: Any = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        value = real_numbers(self.log_var)
        if value is None or value.ndim != 0 or np.abs(value) > _LARGEST_LOG:
            raise InvalidArgumentError(
                f"log_var is {shown(self.log_var)}; give the logarithm of the prior variance, a "
                "finite number between -700 and 700 (for one variance a parameter use "
                "DiagonalGaussianPrior)"
            )
        object.__setattr__(self, "log_var", float(value))
        object.__setattr__(self, "mean", sound_mean(self.mean))

    def log_joint_prob(self, params: Tree) -> jax.Array:
        """Log-density of all parameters together, constants included, a scalar."""
        params = array_tree("params", params)
        squares = sum(jnp.sum(jnp.square(leaf)) for leaf in deviations(params, self.mean))
        n = num_parameters(params)
        return -(jnp.exp(-self.log_var) * squares + n * (math.log(2 * math.pi) + self.log_var)) / 2

    def sample(self, params_like: Tree, rng: jax.Array | None = None) -> Tree:
        """A draw with the structure, shapes and dtypes of `params_like`.

        Where a leaf holds whole numbers the draw is in JAX's own floating dtype. Without `rng`, a
        key or a seed, the draw is that of ``jax.random.PRNGKey(0)``.

        Raises
        ------
        InvalidArgumentError
            If a leaf is no array of real numbers, or `rng` neither key nor seed.
        NonFiniteError
            If a draw is too large for the dtype of its leaf.
        """
        std = math.exp(self.log_var / 2)
        noise = _standard_normal(params_like, rng)
        drawn = shifted(jax.tree.map(lambda leaf: std * leaf, noise), self.mean)
        return _checked_draw(drawn, self)

    def precision_tree(self, params: Tree) -> Tree:
        """The prior precision of each leaf, a tree of floats."""
        return jax.tree.map(lambda leaf: math.exp(-self.log_var), array_tree("params", params))

    def mean_tree(self, params: Tree) -> Tree:
        """The prior mean of each leaf, a tree of floats or float64 arrays."""
        return mean_tree_of(params, self.mean)


@dataclass(frozen=True, eq=False)
class DiagonalGaussianPrior(Prior, numbers=("log_var", "mean")):
    """A Gaussian of its own for each parameter: ``N(mean_i, exp(log_var_i))``.

    Parameters
    ----------
    log_var : array
        Logarithms of the prior variances, shape ``(P,)``, one for each number in the full
        parameter tree in the order of `jax.flatten_util.ravel_pytree`; kept as a NumPy array.
    mean : float, vector or tree of arrays
        Mean of every parameter, or one for each, as in `IsotropicGaussianPrior`.

    Raises
    ------
    InvalidArgumentError
        If `log_var` is not a vector of finite numbers of at most 700 in size, or a mean is not
        finite.
    """

    log_var: Any
    mean: Any = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        value = real_numbers(self.log_var)
        if value is None or value.ndim != 1 or not value.size or np.abs(value).max() > _LARGEST_LOG:
            wrong = "or numbers that do not fit" if value is None else f"{value.shape}"
            raise InvalidArgumentError(
                f"log_var has shape {wrong}: {shown(self.log_var)}; give a vector of finite "
                "numbers between -700 and 700, one for each parameter"
            )
        object.__setattr__(self, "log_var", np.asarray(self.log_var))
        object.__setattr__(self, "mean", sound_mean(self.mean))

    def log_joint_prob(self, params: Tree) -> jax.Array:
        """Log-density of all parameters together, constants included, a scalar.

        Raises
        ------
        ShapeError
            If the tree does not hold as many numbers as `log_var`.
        """
        params = array_tree("params", params)
        total = jnp.asarray(0.0)
        centred = deviations(params, self.mean)
        for leaf, (_, log_var) in zip(centred, self._pieces(params), strict=True):
            log_var = jnp.asarray(log_var, leaf.dtype)
            terms = jnp.exp(-log_var) * jnp.square(leaf) + log_var + math.log(2 * math.pi)
            total = total - jnp.sum(terms) / 2
        return total

    def sample(self, params_like: Tree, rng: jax.Array | None = None) -> Tree:
        """A draw with the structure, shapes and dtypes of `params_like`.

        As that of `IsotropicGaussianPrior`, whose errors it raises too.
        """
        noise = _standard_normal(params_like, rng)
        drawn = [
            (jnp.exp(jnp.asarray(log_var) / 2) * leaf).astype(leaf.dtype)
            for leaf, log_var in self._pieces(noise)
        ]
        moved = shifted(jax.tree.unflatten(jax.tree.structure(params_like), drawn), self.mean)
        return _checked_draw(moved, self)

    def precision_tree(self, params: Tree) -> Tree:
        """The prior precision of each parameter, a tree of float64 arrays shaped like `params`."""
        precisions = [
            np.exp(-np.asarray(log_var, dtype=np.float64)) for _, log_var in self._pieces(params)
        ]
        return jax.tree.unflatten(jax.tree.structure(params), precisions)

    def mean_tree(self, params: Tree) -> Tree:
        """The prior mean of each leaf, a tree of floats or float64 arrays."""
        return mean_tree_of(params, self.mean)

    def _pieces(self, params: Tree) -> list[tuple[Any, Any]]:
        leaves = jax.tree.leaves(array_tree("params", params))
        pieces = cut(self.log_var, leaves, "log_var of DiagonalGaussianPrior")
        return list(zip(leaves, pieces, strict=True))


GaussianPrior = IsotropicGaussianPrior | DiagonalGaussianPrior


def num_parameters(params: Tree) -> int:
    """How many numbers a tree of arrays holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def gaussian_prior(prior: Any, asker: str) -> GaussianPrior:
    """The prior, if it is one of those above; else raises `InvalidArgumentError`."""
    if not isinstance(prior, IsotropicGaussianPrior | DiagonalGaussianPrior):
        raise InvalidArgumentError(
            f"prior is a {type(prior).__name__}, but {asker} adds the prior's precision to the "
            "curvature of the data, which a Gaussian alone has; give IsotropicGaussianPrior or "
            "DiagonalGaussianPrior, or MAPPosteriorApproximator() as posterior_approximator"
        )
    return prior


def _standard_normal(params_like: Tree, rng: jax.Array | int | None) -> Tree:
    key = check_key(0 if rng is None else rng)
    leaves, structure = jax.tree.flatten(array_tree("params_like", params_like))
    keys = jax.random.split(key, max(len(leaves), 1))
    floating = jax.dtypes.canonicalize_dtype(np.float64)
    draws = [
        jax.random.normal(
            k, leaf.shape, leaf.dtype if jnp.issubdtype(leaf.dtype, np.floating) else floating
        )
        for k, leaf in zip(keys, leaves, strict=False)
    ]
    return jax.tree.unflatten(structure, draws)


def _checked_draw(drawn: Tree, prior: Any) -> Tree:
    """The draw, if it is finite (inside a program nothing is known of it)."""
    leaves = jax.tree.leaves(drawn)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if not traced and not is_finite(drawn):
        dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        raise NonFiniteError(
            f"a draw of {type(prior).__name__} is too large for the parameters' dtype ({dtypes}); "
            "give a smaller log_var or mean, or parameters of a wider dtype"
        )
    return drawn
