"""The networks, JAX options and reference values that tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import Run
from commands import quick_run as run_quickly
from flax import linen as nn
from versions import enable_x64

REFERENCE = Path(__file__).parent / "reference"


# Most of the suite's time goes to compiling programs that hardly run: not to making them fast.
jax.config.update("jax_disable_most_optimizations", True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hostile-cases", type=int, default=2200, help="how many cases of tests/hostile are run"
    )
    parser.addoption(
        "--kills", type=int, default=2, help="how often the tests of kills kill a process"
    )


@pytest.fixture(scope="module", autouse=True)
def no_programs_kept() -> Iterator[None]:
    """Give back what a file compiled: no other file would find it, and it is gigabytes in all."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A quick run of the README's command of a module, one for all files and all processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    return lambda module: run_quickly(module, shared)


class SmallNet(nn.Module):
    """One hidden layer of 16 ReLU and 10 outputs, as in the reference values."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(10, name="head")(nn.relu(nn.Dense(16, name="hidden")(x)))


@pytest.fixture
def strict() -> Iterator[None]:
    """Run a test with JAX's strict options: no silent broadcast over ranks, no silent promotion."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """Run a test with 64-bit JAX."""
    with enable_x64(True):
        yield


@pytest.fixture(scope="session")
def digits() -> SimpleNamespace:
    """The classification values of laplace-torch, with the variables of `SmallNet` in float64."""
    with np.load(REFERENCE / "laplace_torch.npz") as arrays:
        values = {
            key.removeprefix("digits_"): value
            for key, value in arrays.items()
            if key.startswith("digits_")
        }
        values["taus"] = arrays["taus"]
    layers = {
        layer: {leaf: values.pop(f"{layer}_{leaf}") for leaf in ("kernel", "bias")}
        for layer in ("hidden", "head")
    }
    return SimpleNamespace(model=SmallNet(), variables={"params": layers}, **values)


@pytest.fixture
def small() -> SimpleNamespace:
    """A softmax regression on three hidden units: a problem small enough for dense algebra."""
    generator = np.random.default_rng(7)
    num_data, num_outputs = 12, 4

    def shaped(*shape: int) -> jax.Array:
        return jnp.asarray(0.5 * generator.standard_normal(shape).astype(np.float32))

    params = {
        "first": {"w": shaped(2, 3), "b": shaped(3)},
        "last": {"b": shaped(num_outputs), "w": shaped(3, num_outputs)},
    }
    x = generator.standard_normal((num_data, 2)).astype(np.float32)
    y = generator.integers(0, num_outputs, num_data)
    return SimpleNamespace(apply=small_apply, params=params, x=x, y=y, loader=[(x, y)])


def small_apply(params: dict, x: jax.Array) -> jax.Array:
    """The network of `small`, a plain function."""
    hidden = jnp.tanh(x @ params["first"]["w"] + params["first"]["b"][None, :])
    return hidden @ params["last"]["w"] + params["last"]["b"][None, :]
