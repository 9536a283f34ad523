"""Posteriors over the ready-made networks: heads, frozen extractors, log-variance models."""

from __future__ import annotations

import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from model_cases import CASES, HEADS, VECTORS, evaluating, variables, with_weights

import hoarfrost
from hoarfrost import fit_laplace, model
from hoarfrost.data import DataLoader
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

LABELS = np.array([0, 1, 2, 2, 1, 0])
NUMBERS = VECTORS[:, :1] ** 2
QUICK = FitMonitor(verbose=False)


def head(path, value):
    """Fortuna's way to choose."""
    return "trainable" if "output_subnet" in path else "frozen"


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_each_network_has_a_posterior_and_nnx_has_the_same(name):
    case, values = CASES[name], variables(name)
    # Pairs of arrays are for a network, not yet for a loader.
    inputs = case.inputs[0] if isinstance(case.inputs, tuple) else case.inputs
    loader = [(inputs, LABELS)]
    options = {"trainable": "last_layer", "prior_precision": 2.0, "progress": False}
    posterior = fit_laplace(case.linen(), values, loader, **options)
    layer = jax.tree.leaves_with_path(posterior.sample(0, 1)["params"])
    assert len(layer) == 2
    if name not in ("CNN", "LinearModel"):
        assert {key_path[0].key for key_path, _ in layer} == {"output_subnet"}
    if name == "MLP":
        chosen = fit_laplace(case.linen(), values, loader, **{**options, "trainable": head})
        np.testing.assert_array_equal(chosen.precision(), posterior.precision())

    if name not in ("MLP", "LeNet5", "TransformerEncoder"):
        return  # Equal outputs are tested for each.
    module = evaluating(with_weights(case.nnx(), values))
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    own = fit_laplace(lambda p, x: nnx.merge(graphdef, p, rest)(x), params, loader, **options)
    scale = np.abs(posterior.precision()).max()
    np.testing.assert_allclose(own.precision(), posterior.precision(), rtol=0, atol=1e-5 * scale)


def test_fortunas_freeze_function_trains_the_output_subnet_alone():
    """Not even the statistics of a frozen extractor move."""
    case = CASES["ResNet"]
    loader = DataLoader.from_array_data((case.inputs, LABELS), batch_size=6)

    def freeze(path, value):
        return "frozen" if "dfe_subnet" in path else "trainable"

    def config(**options):
        return FitConfig(
            optimizer=FitOptimizer(method=optax.sgd(0.1), n_epochs=1, **options),
            checkpointer=FitCheckpointer(start_from_current_state=bool(options)),
            monitor=QUICK,
        )

    classifier = ProbClassifier(
        model=case.linen(), posterior_approximator=MAPPosteriorApproximator()
    )
    classifier.train(train_data_loader=loader, fit_config=config())
    first = classifier.posterior.state.get()
    classifier.train(train_data_loader=loader, fit_config=config(freeze_fun=freeze))
    second = classifier.posterior.state.get()
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), first.params["model"], second.params["model"]
    )["params"]
    assert not any(jax.tree.leaves(changed["dfe_subnet"]))
    assert all(jax.tree.leaves(changed["output_subnet"]))
    jax.tree.map(np.testing.assert_array_equal, first.mutable["model"], second.mutable["model"])


@pytest.mark.parametrize(
    "variance",
    [
        model.MLP(1, (4, 4)),
        model.LinearModel(1),
        model.ConstantModel(1),
        model.ScalarConstantModel(1),
        model.HyperparameterModel(np.float32([-1.0])),
        model.ScalarHyperparameterModel(1, -1.0),
    ],
    ids=lambda network: type(network).__name__,
)
@pytest.mark.parametrize("approximator", [MAPPosteriorApproximator, LaplacePosteriorApproximator])
def test_a_regressor_takes_each_for_its_log_variance(variance, approximator):
    loader = DataLoader.from_array_data((VECTORS, NUMBERS), batch_size=6)
    regressor = ProbRegressor(
        model=model.MLP(1, (4, 4)),
        likelihood_log_variance_model=variance,
        posterior_approximator=approximator(),
    )
    config = FitConfig(optimizer=FitOptimizer(n_epochs=2), monitor=QUICK)
    more = {"map_fit_config": config} if approximator is LaplacePosteriorApproximator else {}
    regressor.train(train_data_loader=loader, fit_config=config, **more)
    noise = regressor.predictive.aleatoric_variance(loader.to_inputs_loader())
    assert noise.shape == (6, 1) and np.isfinite(noise).all() and (noise > 0).all()
    if "Hyper" in type(variance).__name__:
        np.testing.assert_allclose(noise, np.exp(-1.0), rtol=1e-5)


def test_an_empty_leaf_has_draws_without_numbers():
    """As that of a log-variance without parameters."""

    def apply(params, x):
        return x @ params["kernel"]

    params = {"kernel": np.ones((5, 3), np.float32), "none": np.zeros((0,), np.float32)}
    draws = fit_laplace(apply, params, [(VECTORS, LABELS)], progress=False).sample(0, 4)
    assert draws["none"].shape == (4, 0) and draws["kernel"].shape == (4, 5, 3)


def test_the_package_loads_its_networks_when_they_are_asked_for():
    script = (
        "import sys, hoarfrost; assert 'hoarfrost.model' not in sys.modules; hoarfrost.model.MLP"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert "model" in hoarfrost.__all__ and hoarfrost.model is model
