"""A linear model with Gaussian noise, whose posterior is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from hoarfrost.data import DataLoader
from hoarfrost.likelihood import Gaussian

NOISE, PRIOR = 0.5, 2.0
SIZE = 60


def apply(params: Any, x: Any) -> Any:
    """One output: a frozen layer, and the trainable head on it."""
    return (x @ params["body"]) @ params["head"]


@dataclass(frozen=True)
class Exact:
    """The model, its data, and its posterior: mean ``(D,)`` and precision ``(D, D)``."""

    params: dict[str, Any]
    x: np.ndarray
    y: np.ndarray
    features: np.ndarray
    mean: np.ndarray
    precision: np.ndarray

    def loader(self, batch_size: int | None = None) -> DataLoader:
        """Its data."""
        return DataLoader.from_array_data((self.x, self.y), batch_size=batch_size)

    @property
    def options(self) -> dict[str, Any]:
        """What every method is told."""
        return {
            "likelihood": Gaussian(noise_std=NOISE),
            "trainable": lambda path, value: path == ("head",),
            "prior_precision": PRIOR,
            "progress": False,
        }

    def whitened(self, draws: Any) -> np.ndarray:
        """Draws ``(S, D)`` as they would be under a standard normal."""
        flat = np.asarray(draws, np.float64).reshape(len(draws), -1)
        return (flat - self.mean) @ np.linalg.cholesky(self.precision)


def problem(dimension: int = 3, at_mean: bool = True) -> Exact:
    """A model of so many parameters, which start at the posterior mean or at zero."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(SIZE, dimension)).astype(np.float32)
    mix = np.eye(dimension) + 0.4 * rng.normal(size=(dimension, dimension))
    body = mix.astype(np.float32)
    truth = rng.normal(size=(dimension, 1))
    features = x.astype(np.float64) @ body
    y = (features @ truth + NOISE * rng.normal(size=(SIZE, 1))).astype(np.float32)
    precision = features.T @ features / NOISE**2 + PRIOR * np.eye(dimension)
    mean = np.linalg.solve(precision, features.T @ y.astype(np.float64)[:, 0] / NOISE**2)
    head = mean if at_mean else np.zeros(dimension)
    params = {"body": jnp.asarray(body), "head": jnp.asarray(head[:, None], jnp.float32)}
    return Exact(params, x, y, features, mean, precision)
