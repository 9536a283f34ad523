"""Two problems for all methods, each with inputs unlike those of its training; no download."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.examples.methods.problem import Problem
from hoarfrost.examples.methods.settings import adam
from hoarfrost.likelihood import Gaussian
from hoarfrost.methods import WeightPosterior, fit_map

BATCH = 50
# Points of each kind that are scored in a quick run.
_QUICK_TEST = 100
_NUM_KNOWN = 7
_DIGITS_TRAIN = 500
# Friedman's problem has a noise of 1 on targets that are then brought to standard deviation 1.
_POINTS, _NOISE = 200, 1.0
_SWAG_RATE = 2e-5


class Body(nn.Module):  # type: ignore[misc]
    """One hidden layer."""

    width: int

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Hidden features, shape ``(B, width)``."""
        return nn.tanh(nn.Dense(self.width, name="hidden")(inputs))


class Net(nn.Module):  # type: ignore[misc]
    """One hidden layer and a head."""

    width: int
    outputs: int

    @nn.compact  # type: ignore
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Outputs, shape ``(B, outputs)``."""
        outputs: jax.Array = nn.Dense(self.outputs, name="head")(
            Body(self.width, name="body")(inputs)
        )
        return outputs


@dataclass(frozen=True, eq=False)
class Task:
    """A problem of one seed, and what its methods are asked.

    Attributes
    ----------
    name, about : str
        For the reader.
    problem : Problem
        What the methods are given.
    trained : WeightPosterior
        The network at its MAP.
    seconds : float
        What that took.
    inputs, targets : ndarray
        Test points.
    unknown : ndarray
        Inputs that are none of these.
    """

    name: str
    about: str
    problem: Problem
    trained: WeightPosterior
    seconds: float
    inputs: np.ndarray
    targets: np.ndarray
    unknown: np.ndarray


def digits(seed: int, epochs: int, quick: bool) -> Task:
    """Seven classes of scikit-learn's digits to train on; the three others are unknown."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    generator = np.random.default_rng(seed)
    held_out = generator.choice(10, 10 - _NUM_KNOWN, replace=False)
    known = ~np.isin(classes, held_out)
    _, labels = np.unique(classes[known], return_inverse=True)
    x = (images[known] / 16).astype(np.float32)
    order = generator.permutation(len(x))
    x, y = x[order], labels[order].astype(np.int32)
    unknown = (images[~known] / 16).astype(np.float32)
    return trained_task(
        "digits",
        f"{_DIGITS_TRAIN} digits of seven classes, network 64-32-7; AUROC: how well the entropy of "
        "a prediction tells digits of the three other classes from test digits",
        Net(32, _NUM_KNOWN),
        "categorical",
        (x[:_DIGITS_TRAIN], y[:_DIGITS_TRAIN]),
        (x[_DIGITS_TRAIN:], y[_DIGITS_TRAIN:]),
        unknown,
        1e-4,
        seed,
        epochs,
        quick,
    )


def friedman(seed: int, epochs: int, quick: bool) -> Task:
    """Friedman's first problem; inputs up to twice as far out are unknown."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(n_samples=_POINTS + 1000, noise=_NOISE, random_state=seed)
    train = slice(0, _POINTS)
    centre, scale = x[train].mean(axis=0), x[train].std(axis=0)
    middle, spread = y[train].mean(), y[train].std()
    x = ((x - centre) / scale).astype(np.float32)
    y = ((y - middle) / spread).astype(np.float32)[:, None]
    generator = np.random.default_rng(seed)
    far = (generator.uniform(-0.5, 1.5, (1000, x.shape[1])) - centre) / scale
    return trained_task(
        "Friedman",
        f"{_POINTS} points of Friedman's first problem, network 10-32-1, its noise known; AUROC: "
        "how well the predicted spread tells inputs of a cube twice as wide from test inputs",
        Net(32, 1),
        Gaussian(noise_std=float(_NOISE / spread)),
        (x[train], y[train]),
        (x[_POINTS:], y[_POINTS:]),
        far.astype(np.float32),
        2e-5,
        seed,
        epochs,
        quick,
    )


TASKS: dict[str, Callable[[int, int, bool], Task]] = {"digits": digits, "friedman": friedman}


def trained_task(
    name: str,
    about: str,
    network: Net,
    likelihood: Any,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    unknown: np.ndarray,
    step: float,
    seed: int,
    epochs: int,
    quick: bool,
) -> Task:
    """Train a network to its MAP under a standard normal prior; of a quick task fewer points."""
    loader = DataLoader.from_array_data(train, batch_size=BATCH, shuffle=True, seed=seed)
    begin = network.init(jax.random.PRNGKey(seed), train[0][:1])
    start = time.perf_counter()
    trained = fit_map(
        network,
        begin,
        loader,
        optimizer=adam(),
        n_epochs=epochs,
        likelihood=likelihood,
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - start
    size = _QUICK_TEST if quick else len(test[0])
    params = trained.merge()
    problem = Problem(
        network=network,
        params=params,
        body=Body(network.width),
        body_params={"params": params["params"]["body"]},
        outputs=network.outputs,
        likelihood=likelihood,
        train=loader,
        epochs=epochs,
        step=step,
        rate=_SWAG_RATE,
    )
    return Task(
        name, about, problem, trained, seconds, test[0][:size], test[1][:size], unknown[:size]
    )
