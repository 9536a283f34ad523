"""Child: how much the peak memory of a process grows with the data, which lie in files.

Arguments: a folder, the number of shards. Prints the bytes that a fit, a training and a prediction
take over all shards beyond what they took over two.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    MAPPosteriorApproximator,
    ProbClassifier,
)

POINTS, WIDTH, BATCH = 2**12, 2**8, 2**9


def write(folder: Path, shards: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(shards):
        inputs = rng.normal(size=(POINTS, WIDTH)).astype(np.float32)
        np.save(folder / f"inputs{i}.npy", inputs)
        np.save(folder / f"targets{i}.npy", (inputs[:, 0] > 0).astype(np.int32))


def loader(folder: Path, shards: int) -> DataLoader:
    """Batches of memory-mapped shards, each open for as long as its batches are gone over."""

    def batches():
        for i in range(shards):
            inputs = np.load(folder / f"inputs{i}.npy", mmap_mode="r")
            targets = np.load(folder / f"targets{i}.npy", mmap_mode="r")
            for start in range(0, POINTS, BATCH):
                yield inputs[start : start + BATCH], targets[start : start + BATCH]

    return DataLoader.from_callable_iterable(batches)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(folder: str, count: str) -> None:
    where, shards = Path(folder), int(count)
    write(where, shards)
    rng = np.random.default_rng(1)
    params = {
        "body": jnp.asarray(rng.normal(size=(WIDTH, 8)) / 16, jnp.float32),
        "head": jnp.asarray(rng.normal(size=(8, 2)), jnp.float32),
    }

    def fit(number):
        posterior = hoarfrost.fit_laplace(
            lambda p, x: jnp.tanh(x @ p["body"]) @ p["head"],
            params,
            loader(where, number),
            trainable=lambda path, _: path[0] == "head",
            progress=False,
        )
        assert posterior.num_data == number * POINTS
        return posterior

    def train(number):
        quiet = FitMonitor(verbose=False)
        model = ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())
        optimizer = FitOptimizer(method=optax.sgd(1e-3), n_epochs=1)
        model.train(loader(where, number), fit_config=FitConfig(optimizer, monitor=quiet))

    def predict(number):
        found = fit(2).predict(loader(where, number).to_inputs_loader())
        assert found.shape == (number * POINTS, 2)

    grown = {}
    for name, verb in (("fit", fit), ("train", train), ("predict", predict)):
        verb(2)
        verb(2)
        before = peak()
        verb(shards)
        grown[name] = peak() - before
    print(json.dumps({"grown": grown, "data": shards * POINTS * WIDTH * 4}))


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    main(*sys.argv[1:])
