"""The Laplace posterior: a Gaussian over the trainable parameters, and what follows from it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.laplace import links
from hoarfrost.laplace.evidence import log_marginal_likelihood
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.prior_precision import PriorPrecision, resolve_prior_precision
from hoarfrost.laplace.structures import Curvature, Factor

Tree = Any


@dataclass(frozen=True, eq=False, repr=False)
class Laplace:
    """The Gaussian posterior ``N(theta_MAP, (H + T)^-1)`` over the trainable parameters.

    Made by `hoarfrost.fit_laplace`. ``H`` is the generalised Gauss-Newton matrix of the data, ``T``
    the diagonal of prior precisions. Vectors and matrices over the P parameters are in the order
    of `jax.flatten_util.ravel_pytree` of the trainable tree.

    Attributes
    ----------
    hessian_structure : str
        "full" or "diag".
    log_likelihood : float
        Of all data at the mean, constants included.
    num_data : int
        Number of data points.
    """

    linearised: LinearisedNetwork = field(repr=False)
    hessian_structure: str
    prior: PriorPrecision
    log_likelihood: float
    num_data: int
    factor: Factor
    curvature: Curvature | None
    collections: Mapping[str, Tree] = field(default_factory=dict)

    @property
    def num_params(self) -> int:
        """P, the number of trainable parameters."""
        return self.linearised.mean.size

    @property
    def mean(self) -> np.ndarray:
        """The MAP of the trainable parameters, shape ``(P,)``, float64."""
        return self.linearised.mean.copy()

    @property
    def prior_precision(self) -> Any:
        """A float where one was given for all parameters, else a tree like the trainable one."""
        return self.prior.value

    def precision(self) -> np.ndarray:
        """The posterior precision ``H + T``, shape ``(P, P)``, float64."""
        return self.factor.precision()

    def covariance(self) -> np.ndarray:
        """The posterior covariance, shape ``(P, P)``, float64."""
        return self.factor.covariance()

    def variance(self) -> np.ndarray:
        """The diagonal of the covariance, without forming it; shape ``(P,)``, float64."""
        return self._variance.copy()

    def log_marginal_likelihood(self, prior_precision: Any = None) -> float:
        """The log evidence, given the frozen parameters.

        Parameters
        ----------
        prior_precision : number, tree of numbers or tree of arrays, optional
            By default the posterior's own; another one costs a factorisation.

        Raises
        ------
        InvalidArgumentError
            If another prior precision is asked for and the curvature was not kept.
        """
        prior, factor = self.prior, self.factor
        if prior_precision is not None:
            prior, factor = self._refactored(prior_precision)
        return log_marginal_likelihood(
            self.log_likelihood, prior.vector, self.linearised.mean, factor.log_det()
        )

    def with_prior_precision(self, prior_precision: Any) -> Laplace:
        """The posterior under another prior precision: a new factor, no new pass over the data.

        Raises
        ------
        InvalidArgumentError
            If it is not positive, or the curvature was not kept.
        """
        prior, factor = self._refactored(prior_precision)
        return dataclasses.replace(self, prior=prior, factor=factor)

    def sample(self, seed: int, n_samples: int) -> Tree:
        """Draws from the posterior.

        Parameters
        ----------
        seed : int
            The same seed gives the same draws, bit for bit.
        n_samples : int
            How many.

        Returns
        -------
        tree
            The trainable tree, leaves with a leading axis `n_samples`, in the parameters' dtype.
        """
        check_seed(seed)
        check_count("n_samples", n_samples, 1)
        draws = self.factor.deviations(int(seed), int(n_samples))
        draws += self.linearised.mean
        leaves, treedef = jax.tree.flatten(self.linearised.trainable)
        starts = np.cumsum([leaf.size for leaf in leaves])[:-1]
        parts = np.split(draws, starts, axis=1)
        shaped = [
            jnp.asarray(part.reshape(-1, *leaf.shape).astype(leaf.dtype))
            for part, leaf in zip(parts, leaves, strict=True)
        ]
        return jax.tree.unflatten(treedef, shaped)

    def merge(self, tree: Tree) -> Tree:
        """The full parameter tree with these trainable leaves and the frozen ones of the MAP.

        Parameters
        ----------
        tree : tree
            A trainable tree, such as one draw of `sample`.
        """
        _, frozen = self.linearised.partition.split(self.linearised.params)
        params = self.linearised.partition.merge(tree, frozen)
        return {**params, **self.collections} if self.collections else params

    def functional_covariance(self, inputs: Tree) -> np.ndarray:
        """Covariance of the outputs, ``J Sigma J^T``, of the linearised network.

        Parameters
        ----------
        inputs : array, tree of arrays or InputsLoader
            Axis 0 runs over the B points.

        Returns
        -------
        ndarray
            Shape ``(B, C, C)``, float64.
        """
        pieces = self.linearised.walk(inputs)
        return np.concatenate([self.factor.functional_covariance(p.block) for p in pieces])

    def functional_variance(self, inputs: Tree) -> np.ndarray:
        """The diagonal of `functional_covariance`, without forming it; shape ``(B, C)``."""
        pieces = self.linearised.walk(inputs)
        return np.concatenate([self.factor.functional_variance(p.block) for p in pieces])

    def predict(
        self,
        inputs: Tree,
        link: Literal["probit", "mc"] = "probit",
        n_samples: int = 100,
        seed: int = 0,
    ) -> Any:
        """The predictive distribution of the targets.

        Parameters
        ----------
        inputs : array, tree of arrays or InputsLoader
            Axis 0 runs over the B points.
        link : {"probit", "mc"}
            By shrinking the logits, or by sampling the linearised network. A Gaussian likelihood
            needs neither.
        n_samples, seed : int
            Of "mc". A point's draws depend on the seed and the point's index alone.

        Returns
        -------
        ndarray, or tuple of two
            Classification: probabilities, shape ``(B, C)``. Gaussian likelihood: mean and variance
            of the targets, each ``(B, C)``, the noise included. In the outputs' dtype (at least
            float32).
        """
        links.check_link(link)
        check_count("n_samples", n_samples, 1)
        check_seed(seed)
        likelihood = self.linearised.likelihood
        if likelihood.name == "gaussian":
            return self._predict_gaussian(inputs)
        predicted, start = [], 0
        for piece in self.linearised.walk(inputs):
            if link == "probit":
                variance = self.factor.functional_variance(piece.block)
                predicted.append(links.probit(likelihood, piece.outputs, variance))
            else:
                covariance = self.factor.functional_covariance(piece.block)
                predicted.append(
                    links.monte_carlo(
                        likelihood, piece.outputs, covariance, int(seed), start, int(n_samples)
                    )
                )
            start += len(piece.outputs)
        return np.concatenate(predicted)

    def with_collections(self, collections: Mapping[str, Tree]) -> Laplace:
        """The same posterior, whose `merge` adds these collections beside the parameters."""
        return dataclasses.replace(self, collections=collections)

    @functools.cached_property
    def _variance(self) -> np.ndarray:
        return self.factor.variance()

    def _predict_gaussian(self, inputs: Tree) -> tuple[np.ndarray, np.ndarray]:
        likelihood = self.linearised.likelihood
        means, variances = [], []
        for piece in self.linearised.walk(inputs):
            noise = 1 / likelihood.head_weights(piece.outputs.astype(np.float64))
            variance = self.factor.functional_variance(piece.block) + noise
            means.append(piece.outputs)
            variances.append(variance.astype(piece.outputs.dtype))
        return np.concatenate(means), np.concatenate(variances)

    def _refactored(self, prior_precision: Any) -> tuple[PriorPrecision, Factor]:
        prior = resolve_prior_precision(prior_precision, self.linearised.trainable)
        if self.curvature is None:
            raise InvalidArgumentError(
                "prior_precision cannot be changed: the curvature was not kept beside the factor "
                "(keep_curvature=False, or 'auto' where memory did not allow it); fit again with "
                "keep_curvature=True, or with this prior_precision"
            )
        return prior, self.curvature.factor(prior.vector)

    def __repr__(self) -> str:
        likelihood = self.linearised.likelihood.name
        return (
            f"Laplace(num_params={self.num_params}, num_data={self.num_data}, "
            f"likelihood={likelihood!r}, hessian_structure={self.hessian_structure!r})"
        )


def check_count(name: str, value: Any, least: int) -> None:
    """Raise `InvalidArgumentError` unless `value` is a whole number of at least `least`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or int(value) < least:
        raise InvalidArgumentError(f"{name} is {value!r}; give a whole number of at least {least}")


def check_seed(seed: Any) -> None:
    """Raise `InvalidArgumentError` unless `seed` is a whole number of 64 bits."""
    check_count("seed", seed, 0)
    if int(seed) >= 2**64:
        raise InvalidArgumentError(f"seed is {seed!r}; give a whole number below 2**64")
