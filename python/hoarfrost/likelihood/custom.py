"""The base of a likelihood that a user adds."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.dtypes import at_least_float32
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.likelihood.base import Head, check_finite_targets
from hoarfrost.likelihood.check import CurvatureCheck, check_likelihood, negative_hessians
from hoarfrost.network.reads import Reads

# An eigenvalue of Lambda that is more negative than this part of the largest is no rounding error.
_ROUNDING = 1e-3

# Attributes of our own.
_PRIVATE = frozenset({"_reads", "_found"})


@dataclass(frozen=True)
class CustomLikelihood(abc.ABC):
    """Base of a likelihood of your own: a frozen dataclass that defines `log_prob`.

    Everything else has a default or may be defined beside it. With B points and C outputs each:

    ``log_prob(outputs, targets)``
        Log-density of each target, shape ``(B,)``, written in JAX. Needed.
    ``sample(outputs, key)``
        Targets drawn from the model, with the leading axis B. The default, standard normal numbers
        of shape ``(B, C)``, will do where targets are real numbers and `output_curvature` is not
        defined. It also says what shape targets must have.
    ``output_curvature(outputs)``
        Lambda, the Fisher information of the outputs, shape ``(B, C, C)``: the mean over targets of
        the negative Hessian of `log_prob`. The default is that Hessian itself, for likelihoods
        whose Hessian does not depend on the target. Every other likelihood must define it, and
        `sample` too.
    ``mean(outputs)``
        Mean of the targets, leading axis B. Predictions need it, a fit does not. Variances of
        predictions need ``variance`` and ``target_moments`` too, as `Regression` describes them.
    ``num_outputs``
        The number of outputs that the network must have; None, the default, for any.
    ``data_fields``
        Names of the fields that are numbers, of which another value shall compile nothing again: in
        a program they are traced, so that no Python branch may depend on them. None by default.

    When an object is made, all of this is compared with `jax.hessian` at random outputs; an equal
    object is not checked again. Whether Lambda is diagonal is found there too: a last layer then
    needs no Jacobians.

    Raises
    ------
    InvalidArgumentError
        If a parameter is not hashable (an array: give a tuple), or the check fails: the message
        says at which outputs, and by how much.

    Examples
    --------
    >>> import dataclasses, jax, jax.numpy as jnp, hoarfrost
    >>> @dataclasses.dataclass(frozen=True)
    ... class Exponential(hoarfrost.likelihood.CustomLikelihood):
    ...     '''Waiting times with the log-rate as output.'''
    ...     def log_prob(self, outputs, targets):
    ...         return jnp.sum(outputs - jnp.exp(outputs) * targets, axis=1)
    ...     def sample(self, outputs, key):
    ...         return jax.random.exponential(key, outputs.shape) * jnp.exp(-outputs)
    ...     def output_curvature(self, outputs):
    ...         return jnp.eye(outputs.shape[1])[None] * jnp.ones_like(outputs)[:, :, None]
    >>> Exponential().head
    'independent'
    """

    num_outputs: ClassVar[int | None] = None
    data_fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        jax.tree_util.register_pytree_node(cls, _flatten, _unflatten)

    def __post_init__(self) -> None:
        try:
            hash(self)
        except TypeError:
            raise InvalidArgumentError(
                f"{self!r} has no hash, which a likelihood needs as an argument of compiled "
                "programs; decorate the class with @dataclasses.dataclass(frozen=True), and give "
                "tuples in place of lists and arrays"
            ) from None
        self._checked()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, CustomLikelihood):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __getstate__(self) -> dict[str, Any]:
        # A copy, also one in another process, looks for itself.
        return {name: value for name, value in vars(self).items() if name not in _PRIVATE}

    def _identity(self) -> tuple[Any, ...]:
        """By what a likelihood that is no dataclass of its own is told from others."""
        return (self._version(), *(getattr(self, name) for name in self.data_fields))

    def _version(self) -> int:
        """Which attributes there are beside the numbers that are data, and what methods read."""
        reads = self.__dict__.get("_reads")
        if reads is None:
            reads = Reads(self, _PRIVATE.union(self.data_fields))
            self.__dict__["_reads"] = reads
        version: int = reads.version()
        return version

    def _checked(self) -> CurvatureCheck:
        cls, version = type(self), self._version()
        names = ("output_curvature", "sample")
        own = (n for n in names if getattr(cls, n) is not getattr(CustomLikelihood, n))
        found = check_likelihood(self, frozenset(own), version)
        self.__dict__["_found"] = (version, found)
        return found

    @abc.abstractmethod
    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Log-density of each target, constants included, shape ``(B,)``."""

    def sample(self, outputs: jax.Array, key: jax.Array) -> jax.Array:
        """Targets drawn from the model; by default standard normal, shape ``(B, C)``."""
        return jax.random.normal(key, outputs.shape, at_least_float32(outputs).dtype)

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        """Lambda, shape ``(B, C, C)``; by default the negative Hessian of `log_prob`."""
        outputs = at_least_float32(outputs)
        return negative_hessians(self, outputs, self.sample(outputs, jax.random.PRNGKey(0)))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """Mean of the targets; a likelihood that predicts defines it."""
        raise InvalidArgumentError(
            f"{type(self).__name__} does not say what the mean of its targets is; define "
            "mean(outputs) to predict with it"
        )

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    @property
    def head(self) -> Head:
        """Whether Lambda is diagonal, as the check found it."""
        # Inside a program the numbers are tracers, which cannot be checked.
        version, found = self.__dict__.get("_found", (None, None))
        if found is None or version != self._version():
            found = self._checked()
        return "independent" if found.diagonal else "general"

    def check_outputs(self, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless outputs are ``(B, C)`` with the right C."""
        wanted = self.num_outputs
        if len(shape) != 2 or shape[1] < 1 or wanted not in (None, shape[1]):
            raise ShapeError(
                f"the network's outputs have shape {tuple(shape)}; the likelihood {self.name} "
                f"needs (batch, {'outputs' if wanted is None else wanted})"
            )

    def check_targets(self, targets: np.ndarray, num_outputs: int, batch_index: int) -> None:
        """Raise a typed error unless targets are finite and shaped like what `sample` gives."""
        outputs = jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            (1, num_outputs), jnp.float32
        )
        drawn = jax.eval_shape(lambda f: self.sample(f, jax.random.PRNGKey(0)), outputs)
        if targets.ndim == 0 or targets.shape[1:] != drawn.shape[1:]:
            expected = ", ".join(["batch", *map(str, drawn.shape[1:])])
            raise ShapeError(
                f"targets of batch {batch_index} have shape {targets.shape}; the likelihood "
                f"{self.name} needs ({expected}), as its sample(outputs, key) gives them"
            )
        check_finite_targets(targets, batch_index)

    def curvature_root(self, outputs: jax.Array) -> jax.Array:
        """A symmetric root of Lambda, shape ``(B, C, C)``; NaN where Lambda is indefinite."""
        curvature = self.output_curvature(outputs)
        if self.head == "independent":
            eye = jnp.eye(curvature.shape[1], dtype=curvature.dtype)[None]
            return eye * jnp.sqrt(jnp.einsum("bcc->bc", curvature))[:, :, None]
        values, vectors = jnp.linalg.eigh(curvature)
        least = -_ROUNDING * jnp.max(jnp.abs(values), axis=1, keepdims=True)
        # Rounding below zero counts as zero; anything more must not pass unnoticed.
        roots = jnp.where(values < least, jnp.nan, jnp.sqrt(jnp.maximum(values, 0)))
        return vectors * roots[:, None, :]

    def head_weights(self, outputs: np.ndarray) -> np.ndarray:
        """Diagonal of Lambda, shape ``(B, C)``, float64."""
        return np.asarray(_diagonal(self, jnp.asarray(outputs)), dtype=np.float64)


def _flatten(likelihood: CustomLikelihood) -> tuple[tuple[Any, ...], Any]:
    """Numbers that are data; and what is static."""
    names = likelihood.data_fields
    return tuple(getattr(likelihood, name) for name in names), _Static(likelihood)


def _unflatten(static: _Static, data: tuple[Any, ...]) -> Any:
    return static.likelihood(data)


class _Static:
    """All of a likelihood but the numbers that are data, with what its methods read."""

    def __init__(self, likelihood: CustomLikelihood) -> None:
        self._class = type(likelihood)
        self._names = likelihood.data_fields
        self._version = likelihood._version()
        left_out = {"_reads", *self._names}
        self._values = {n: value for n, value in vars(likelihood).items() if n not in left_out}

    def __hash__(self) -> int:
        return hash((self._class, self._version))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Static):
            return NotImplemented
        mine = (self._class, self._names, self._version)
        return mine == (other._class, other._names, other._version)

    def likelihood(self, data: tuple[Any, ...]) -> CustomLikelihood:
        """The likelihood again, with these numbers."""
        made = object.__new__(self._class)
        made.__dict__.update({**self._values, **dict(zip(self._names, data, strict=True))})
        return made


@jax.jit
def _diagonal(likelihood: CustomLikelihood, outputs: jax.Array) -> jax.Array:
    return jnp.einsum("bcc->bc", likelihood.output_curvature(outputs))
