"""The properties table: structure x likelihood x subset of the parameters, and a prior for each.

A new structure, likelihood, subset or prior is one entry here, and goes through every property: the
files ``test_*.py`` of this folder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import LEAVES, Array, Dense
from flax import linen as nn
from scipy import special, stats
from versions import enable_x64

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.likelihood import (
    Bernoulli,
    Categorical,
    CustomLikelihood,
    Gaussian,
    HeteroscedasticGaussian,
    Poisson,
)

RNG = np.random.default_rng(11)
X = RNG.normal(size=(9, 2))
POINTS = RNG.normal(size=(4, 2))
EVERY_POINT = slice(None)
PRIOR_MEAN = 0.2


class Net(nn.Module):
    """The network whose definition is in `dense`."""

    num_outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.num_outputs, name="last")(jnp.tanh(nn.Dense(3, name="first")(x)))


@dataclass(frozen=True)
class StudentT(CustomLikelihood):
    """A likelihood of one's own, whose Hessian is not its Fisher information."""

    degrees: float = 5.0

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.sum(jax.scipy.stats.t.logpdf(targets - outputs, self.degrees), axis=1)

    def sample(self, outputs: jax.Array, key: jax.Array) -> jax.Array:
        return outputs + jax.random.t(key, self.degrees, outputs.shape)

    def output_curvature(self, outputs: jax.Array) -> jax.Array:
        fisher = (self.degrees + 1) / (self.degrees + 3)
        eye = jnp.eye(outputs.shape[1], dtype=outputs.dtype)
        return fisher * jnp.broadcast_to(eye, (*outputs.shape, outputs.shape[1]))

    def mean(self, outputs: jax.Array) -> jax.Array:
        return outputs


class Coupled(CustomLikelihood):
    """Two numbers with correlated noise: a curvature that is neither softmax's nor diagonal."""

    def log_prob(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        gap = targets - outputs
        square = jnp.einsum("bc,cd,bd->b", gap, jnp.asarray(COUPLING, gap.dtype), gap)
        return (np.linalg.slogdet(COUPLING)[1] - square) / 2 - np.log(2 * np.pi)

    def mean(self, outputs: jax.Array) -> jax.Array:
        return outputs


COUPLING = np.array([[2.0, 0.8], [0.8, 1.0]])


@dataclass(frozen=True)
class Definition:
    """A likelihood, made when it is needed, and what it is defined to be.

    Definitions go over leading axes: outputs are ``(..., N, C)``, targets those of N points.
    """

    likelihood: Callable[[], Any]
    targets: Array
    log_prob: Callable[[Array, Array], Array]
    curvature: Callable[[Array], Array]
    mean: Callable[[Array], Array]
    variance: Callable[[Array], Array] | None
    num_outputs: int
    links: tuple[str | None, ...]


def diagonal(values: Array) -> Array:
    """Matrices with these diagonals."""
    return values[..., None] * np.eye(values.shape[-1])


def normal(f: Array, y: Array, variance: Any) -> Array:
    """Log-density of independent normal numbers, summed over the last axis."""
    return stats.norm.logpdf(y, f, np.sqrt(variance)).sum(-1)


def softmax_curvature(f: Array) -> Array:
    """``diag(p) - p p^T``."""
    p = special.softmax(f, axis=-1)
    return diagonal(p) - p[..., :, None] * p[..., None, :]


def gaussian(*std: float) -> Definition:
    """Two numbers under known noise, one standard deviation for both or one for each."""
    variance = np.square(std) * np.ones(2)
    return Definition(
        likelihood=lambda: Gaussian(std[0] if len(std) == 1 else list(std)),
        targets=RNG.normal(size=(9, 2)),
        log_prob=lambda f, y: normal(f, y, variance),
        curvature=lambda f: diagonal(np.broadcast_to(1 / variance, f.shape)),
        mean=lambda f: f,
        variance=lambda f: np.broadcast_to(variance, f.shape),
        num_outputs=2,
        links=(None, "nn"),
    )


# --- the table -----------------------------------------------------------------------------------

# What of the exact curvature a structure keeps, from all that `Dense` knows.
STRUCTURES: dict[str, Callable[[Dense, Array, Callable[[Array], Array]], Array]] = {
    "full": lambda dense, x, curvature: dense.exact_curvature(x, curvature),
    "dual": lambda dense, x, curvature: dense.exact_curvature(x, curvature),
    "kron": lambda dense, x, curvature: dense.layer_curvature(x, curvature),
    "diag": lambda dense, x, curvature: np.diag(np.diag(dense.exact_curvature(x, curvature))),
}

SUBSETS: dict[str, Callable[[Any, Any], bool]] = {
    "all": lambda path, value: True,
    "last layer": lambda path, value: "last" in path,
    "biases": lambda path, value: "bias" in path,
}

LIKELIHOODS: dict[str, Definition] = {
    "categorical": Definition(
        likelihood=Categorical,
        targets=RNG.integers(0, 3, 9),
        log_prob=lambda f, y: special.log_softmax(f, axis=-1)[..., np.arange(len(y)), y],
        curvature=softmax_curvature,
        mean=lambda f: special.softmax(f, axis=-1),
        variance=None,
        num_outputs=3,
        links=("probit", "bridge", "mc", "nn"),
    ),
    "bernoulli": Definition(
        likelihood=Bernoulli,
        targets=RNG.integers(0, 2, (9, 2)),
        log_prob=lambda f, y: special.log_expit((2 * y - 1) * f).sum(-1),
        curvature=lambda f: diagonal(special.expit(f) * special.expit(-f)),
        mean=special.expit,
        variance=None,
        num_outputs=2,
        links=("probit", "mc", "nn"),
    ),
    "gaussian": gaussian(0.7),
    "gaussian by output": gaussian(0.5, 1.3),
    "heteroscedastic": Definition(
        likelihood=HeteroscedasticGaussian,
        targets=RNG.normal(size=(9, 1)),
        log_prob=lambda f, y: normal(f[..., :1], y, np.exp(f[..., 1:])),
        curvature=lambda f: diagonal(np.stack([np.exp(-f[..., 1]), 0 * f[..., 1] + 0.5], axis=-1)),
        mean=lambda f: f[..., :1],
        variance=lambda f: np.exp(f[..., 1:]),
        num_outputs=2,
        links=(None, "nn"),
    ),
    "poisson": Definition(
        likelihood=Poisson,
        targets=RNG.poisson(1.5, (9, 2)),
        log_prob=lambda f, y: stats.poisson.logpmf(y, np.exp(f)).sum(-1),
        curvature=lambda f: diagonal(np.exp(f)),
        mean=np.exp,
        variance=np.exp,
        num_outputs=2,
        links=(None, "nn"),
    ),
    "student": Definition(
        likelihood=StudentT,
        targets=RNG.normal(size=(9, 2)),
        log_prob=lambda f, y: stats.t.logpdf(y - f, 5.0).sum(-1),
        curvature=lambda f: diagonal(np.full(f.shape, 6 / 8)),
        mean=lambda f: f,
        variance=None,
        num_outputs=2,
        links=("mc", "nn"),
    ),
    "coupled": Definition(
        likelihood=Coupled,
        targets=RNG.normal(size=(9, 2)),
        log_prob=lambda f, y: stats.multivariate_normal(cov=np.linalg.inv(COUPLING)).logpdf(y - f),
        curvature=lambda f: np.broadcast_to(COUPLING, (*f.shape, 2)),
        mean=lambda f: f,
        variance=None,
        num_outputs=2,
        links=("mc", "nn"),
    ),
}

# The prior precision of each parameter of a leaf, and what is given for the tree.
PRIORS: dict[str, Callable[[Any], Any]] = {
    "one": lambda tree: 0.6,
    "by leaf": lambda tree: jax.tree.map(lambda leaf: 0.3 + leaf.size / 7, tree),
    "by parameter": lambda tree: jax.tree.map(
        lambda leaf: 0.4 + np.arange(leaf.size).reshape(leaf.shape) % 5, tree
    ),
}


@dataclass(frozen=True)
class Row:
    """One structure with one likelihood over one subset."""

    structure: str
    name: str
    subset: str

    def __str__(self) -> str:
        return f"{self.structure}, {self.name}, {self.subset}"

    @property
    def definition(self) -> Definition:
        """Of the likelihood."""
        return LIKELIHOODS[self.name]

    @property
    def dense(self) -> Dense:
        """The subset in NumPy."""
        select = SUBSETS[self.subset]
        params = params_of(self.definition.num_outputs)
        return Dense(params, tuple(select(("params", *path), None) for path in LEAVES))

    def trainable(self) -> Any:
        """The parameters of the subset, as a tree like the whole."""
        tree: dict[str, Any] = {}
        for (layer, leaf), use in zip(LEAVES, self.dense.chosen, strict=True):
            if use:
                tree.setdefault(layer, {})[leaf] = self.dense.params[layer][leaf]
        return {"params": tree}

    @property
    def priors(self) -> tuple[str, ...]:
        """The priors that the structure takes: of Kronecker factors a layer has one a leaf.

        Exact is any prior for biases, and for a last layer whose outputs are a Gram matrix each.
        """
        exact = self.name.startswith("gaussian") and self.subset == "last layer"
        if self.structure != "kron" or self.subset == "biases" or exact:
            return tuple(PRIORS)
        return ("one", "by leaf")

    def prior(self, name: str) -> tuple[Any, Array]:
        """A prior precision as it is given, and of every parameter, ``(P,)``."""
        tree = self.trainable()
        given = PRIORS[name](tree)
        if isinstance(given, float):
            return given, np.full(self.dense.mean.size, given)
        full = jax.tree.map(lambda leaf, prior: np.broadcast_to(prior, leaf.shape), tree, given)
        return given, np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(full)])

    def variables(self) -> Any:
        """The parameters as arrays of JAX, new ones each time."""
        return {"params": jax.tree.map(jnp.array, self.dense.params)}

    def fit(
        self, prior: str = "one", variables: Any = None, points: slice = EVERY_POINT
    ) -> hoarfrost.Laplace:
        """A posterior of its own: every object that it is made of is new."""
        data = X[points].copy(), self.definition.targets[points].copy()
        return hoarfrost.fit_laplace(
            Net(self.definition.num_outputs),
            variables or self.variables(),
            DataLoader.from_array_data(data, batch_size=5),
            likelihood=self.definition.likelihood(),
            trainable=SUBSETS[self.subset],
            hessian_structure=self.structure,
            prior_precision=self.prior(prior)[0],
            prior_mean=PRIOR_MEAN,
            keep_curvature=True,
            progress=False,
        )

    def precision(self, prior: str = "one") -> Array:
        """``H + T`` by its definition."""
        kept = STRUCTURES[self.structure](self.dense, X, self.definition.curvature)
        return kept + np.diag(self.prior(prior)[1])


@functools.cache
def params_of(num_outputs: int) -> Any:
    """The parameters of the network with so many outputs, float64."""
    rng = np.random.default_rng(num_outputs)
    shapes = {"bias": (3,), "kernel": (2, 3)}, {"bias": (num_outputs,), "kernel": (3, num_outputs)}
    return {
        layer: {leaf: 0.7 * rng.normal(size=shape) for leaf, shape in leaves.items()}
        for layer, leaves in zip(("first", "last"), shapes, strict=True)
    }


@functools.cache
def fitted(row: Row, prior: str = "one") -> hoarfrost.Laplace:
    """A posterior that tests share and leave as it is."""
    with enable_x64(True):
        return row.fit(prior)


ROWS = [
    Row(structure, likelihood, subset)
    for structure in STRUCTURES
    for likelihood in LIKELIHOODS
    for subset in SUBSETS
]
every_row = pytest.mark.parametrize("row", ROWS, ids=str)
every_row_and_prior = pytest.mark.parametrize(
    ("row", "prior"),
    [pytest.param(row, prior, id=f"{row}-{prior}") for row in ROWS for prior in row.priors],
)


def rows_with(link: str | None) -> pytest.MarkDecorator:
    """The rows whose likelihood has this link."""
    rows = [row for row in ROWS if link in row.definition.links]
    return pytest.mark.parametrize("row", rows, ids=str)
