"""Programs of NNX modules: shared by equal ones, kept between calls, without arrays in them."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from nnx_modules import Everything, Net, X, Y

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.network import as_network, interned
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
)

TRACED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: TRACED.append(name) if "jaxpr_trace" in name else None
)
ADAM = optax.adam(1e-2)
QUIET = FitMonitor(verbose=False)


@contextmanager
def nothing_traced() -> Iterator[None]:
    before = len(TRACED)
    yield
    assert TRACED[before:] == []


def fit(module: Any, **options: Any) -> hoarfrost.Laplace:
    posterior = hoarfrost.fit_laplace(module, None, [(X, Y)], progress=False, **options)
    posterior.predict(X)
    posterior.predict(X, "nn", 8)
    return posterior


def head_of(module: nnx.Module, inputs: Any) -> Any:
    return module.layers[1](module.layers[0](inputs))


@pytest.mark.parametrize("made", [Net, Everything])
@pytest.mark.parametrize("call", [None, head_of])
def test_equal_modules_share_their_programs(made, call):
    if call is not None and made is Net:
        call = Net.__call__
    # With the settings of a module in a dict, a graph definition has no hash of its own.
    options = {"trainable": "last_layer", "call": call}
    fit(made(nnx.Rngs(0)), **options)
    with nothing_traced():
        network = as_network(made(nnx.Rngs(1)), None, call)[0]
    assert network is as_network(made(nnx.Rngs(2)), None, call)[0]
    assert hash(network) == hash(interned(network)) and network.owner is None
    module = made(nnx.Rngs(1))
    with nothing_traced():
        fit(module, **options)


def test_other_settings_are_another_network():
    first, second = Everything(nnx.Rngs(0)), Everything(nnx.Rngs(0))
    second.settings["power"] = 2
    networks = [as_network(module, None) for module in (first, second)]
    assert networks[0][0] != networks[1][0]
    outputs = [network.evaluate(params, rest, X) for network, params, rest in networks]
    np.testing.assert_allclose(outputs[0] ** 2, outputs[1], rtol=1e-5)


def test_training_again_traces_nothing():
    data = DataLoader.from_array_data((X, Y), batch_size=8)
    optimizer = FitOptimizer(method=ADAM, n_epochs=2)
    head = FitOptimizer(freeze_fun=["layers/1"])

    def train(module: Any) -> None:
        model = ProbClassifier(
            module, posterior_approximator=LaplacePosteriorApproximator(False), seed=0
        )
        config = FitConfig(optimizer=optimizer, monitor=QUIET)
        model.train(
            data, fit_config=FitConfig(optimizer=head, monitor=QUIET), map_fit_config=config
        )

    train(Everything(nnx.Rngs(0)))
    train(Everything(nnx.Rngs(1)))
    with nothing_traced():
        train(Everything(nnx.Rngs(2)))


def test_no_array_is_a_constant_of_a_program():
    network, params, mutable = as_network(Everything(nnx.Rngs(0)), None)
    evaluated = jax.make_jaxpr(network.evaluate)(params, mutable, X)
    trained = jax.make_jaxpr(network.train)(params, mutable, X, jax.random.PRNGKey(0))
    assert [np.shape(constant) for constant in (*evaluated.consts, *trained.consts)] == []


def test_what_a_call_holds_goes_with_its_network():
    def posterior(held: jax.Array) -> hoarfrost.Laplace:
        return fit(Net(nnx.Rngs(0)), call=lambda module, inputs: module(inputs @ held))

    table = jax.numpy.ones((4, 4))
    kept, fitted = weakref.ref(table), posterior(table)
    assert fitted.linearised.subset.network.owner is not None
    del fitted, table
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize(
    "script",
    [
        "import hoarfrost, sys; hoarfrost.fit_laplace; hoarfrost.prob_model",
        """
import numpy as np, sys, hoarfrost
from flax import linen as nn
from hoarfrost.prob_model import ProbClassifier
ProbClassifier(nn.Dense(2))
hoarfrost.fit_laplace(lambda p, x: x @ p["w"], {"w": np.ones((2, 2), np.float32)},
                      [(np.ones((3, 2), np.float32), np.array([0, 1, 1]))], progress=False,
                      trainable=["w"])
""",
    ],
    ids=["import", "Linen"],
)
def test_nnx_is_imported_only_by_those_who_use_it(script):
    code = f"{script}\nassert 'flax.nnx' not in sys.modules, 'nnx was imported'"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
