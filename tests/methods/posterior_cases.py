"""The properties table of `WeightPosterior`: methods x forms of a network x likelihoods.

A line of the table is one fit, and goes through every property of `test_posterior_properties`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from same_network import WIDTH, arrays, network, outputs_of, plain
from scipy import special, stats

from hoarfrost.data import DataLoader
from hoarfrost.likelihood import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson
from hoarfrost.methods import (
    WeightPosterior,
    fit_advi,
    fit_ensemble,
    fit_ivon,
    fit_map,
    fit_sngp,
    fit_swag,
    sample_cyclical_sgld,
    sample_sghmc,
)

SIZE, POINTS, DRAWS = 20, 6, 7
RNG = np.random.default_rng(12)
X = RNG.normal(size=(SIZE, WIDTH)).astype(np.float32)
ADAM = optax.adam(1e-2)
# Rounding of float32 in a network of two layers and the density of its outputs.
RTOL, ATOL = 5e-5, 2e-5


@dataclass(frozen=True)
class Row:
    """What a likelihood is, over leading axes: outputs ``(..., N, C)``, targets those of N."""

    likelihood: Any
    outputs: int
    targets: np.ndarray
    log_prob: Callable[[np.ndarray, np.ndarray], np.ndarray]
    mean: Callable[[np.ndarray], np.ndarray]
    variance: Callable[[np.ndarray], np.ndarray] | None = None


LIKELIHOODS = {
    "softmax": Row(
        Categorical(),
        3,
        RNG.integers(0, 3, SIZE),
        lambda f, y: special.log_softmax(f, axis=-1)[..., np.arange(len(y)), y],
        lambda f: special.softmax(f, axis=-1),
    ),
    "bernoulli": Row(
        Bernoulli(),
        2,
        RNG.integers(0, 2, (SIZE, 2)),
        lambda f, y: special.log_expit((2 * y - 1) * f).sum(-1),
        special.expit,
    ),
    "gaussian": Row(
        Gaussian(noise_std=0.4),
        2,
        RNG.normal(size=(SIZE, 2)).astype(np.float32),
        lambda f, y: stats.norm.logpdf(y, f, 0.4).sum(-1),
        lambda f: f,
        lambda f: np.full(f.shape, 0.16),
    ),
    "heteroscedastic": Row(
        HeteroscedasticGaussian(),
        2,
        RNG.normal(size=(SIZE, 1)).astype(np.float32),
        lambda f, y: stats.norm.logpdf(y, f[..., :1], np.exp(f[..., 1:] / 2)).sum(-1),
        lambda f: f[..., :1],
        lambda f: np.exp(f[..., 1:]),
    ),
    "poisson": Row(
        Poisson(),
        2,
        RNG.poisson(1.5, (SIZE, 2)),
        lambda f, y: stats.poisson.logpmf(y, np.exp(f)).sum(-1),
        np.exp,
        np.exp,
    ),
}

METHODS: dict[str, Callable[..., WeightPosterior]] = {
    "map": functools.partial(fit_map, optimizer=ADAM, n_epochs=3),
    "swag": functools.partial(fit_swag, optimizer=ADAM, n_epochs=5, rank=2),
    "advi": functools.partial(fit_advi, optimizer=ADAM, n_epochs=2),
    "ivon": functools.partial(fit_ivon, n_epochs=2),
    "deep_ensemble": functools.partial(
        fit_ensemble,
        optimizer=ADAM,
        n_epochs=2,
        ensemble_size=3,
        init="given",
    ),
    "sghmc": functools.partial(
        sample_sghmc, n_samples=3, burnin_length=5, step_schedule=1e-3, num_chains=2
    ),
    "cyclical_sgld": functools.partial(
        sample_cyclical_sgld, n_samples=4, cycle_length=8, num_cycles=2, init_step_size=1e-3
    ),
    "sngp": functools.partial(fit_sngp, optimizer=ADAM, n_epochs=2, gp_hidden_features=8),
}
LISTED = {"map": 1, "deep_ensemble": 3, "sghmc": 6, "cyclical_sgld": 4}
TABLE = (
    ("map", "linen", "gaussian", "all"),
    ("swag", "linen", "softmax", "all"),
    ("swag", "nnx", "poisson", "head"),
    ("advi", "nnx", "softmax", "head"),
    ("advi", "function", "heteroscedastic", "all"),
    ("ivon", "function", "bernoulli", "all"),
    ("deep_ensemble", "linen", "poisson", "head"),
    ("deep_ensemble", "nnx", "heteroscedastic", "all"),
    ("sghmc", "function", "softmax", "head"),
    ("cyclical_sgld", "nnx", "gaussian", "all"),
    ("sngp", "linen", "softmax", "all"),
    ("sngp", "function", "gaussian", "none"),
)
SELECTIONS: dict[str, Any] = {
    "all": None,
    "head": lambda path, value: "head" in path,
    "none": lambda path, value: False,
}


@dataclass(frozen=True)
class Case:
    """A line of the table, fitted."""

    method: str
    kind: str
    row: Row
    params: Any
    chosen: str
    posterior: WeightPosterior

    @property
    def loader(self) -> DataLoader:
        """Its data."""
        return DataLoader.from_array_data((X, self.row.targets), batch_size=8)

    @property
    def model(self) -> Any:
        """The model, made anew."""
        return network(self.kind, self.params)[0]

    def outputs(self, draws: Any, x: np.ndarray = X) -> np.ndarray:
        """Outputs ``(S, N, C)`` under draws, frozen leaves being those of the posterior."""
        count = jax.tree.leaves(draws)[0].shape[0]
        found = []
        for place in range(count):
            one = jax.tree.map(lambda leaf, place=place: leaf[place], draws)
            merged = self.posterior.merge(one)
            if self.method != "sngp":
                found.append(outputs_of(plain(merged), x))
                continue
            gp = {name: np.asarray(leaf, np.float64) for name, leaf in merged["gp"].items()}
            angles = outputs_of(plain(merged["model"]), x) @ gp["frequencies"] + gp["phases"]
            found.append(np.sqrt(2 / gp["phases"].size) * np.cos(angles) @ gp["kernel"])
        return np.stack(found)

    def draws(self, count: int | None, seed: Any = 0) -> Any:
        """Those that predictions take."""
        return self.posterior.weight_samples(count, seed).trainable


@functools.cache
def fitted(method: str, kind: str, likelihood: str, chosen: str, seed: int = 0) -> Case:
    row = LIKELIHOODS[likelihood]
    params = arrays(4 if method == "sngp" else row.outputs)
    own = {"output_dim": row.outputs} if method == "sngp" else {}
    posterior = METHODS[method](
        *network(kind, params),
        DataLoader.from_array_data((X, row.targets), batch_size=8),
        likelihood=row.likelihood,
        trainable=SELECTIONS[chosen],
        seed=seed,
        progress=False,
        **own,
    )
    return Case(method, kind, row, params, chosen, posterior)
