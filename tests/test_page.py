"""The documentation page "Bayesian Inference at Scale", as its reader would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REFERENCE = Path(__file__).parent / "reference" / "fortuna_seed.npz"

PAGE = r"""
import json, sys, warnings
warnings.simplefilter("error")
import numpy as np
from hoarfrost.data import DataLoader
from jax import random
import jax.numpy as jnp

output_dim = 10
n_data = 50
train_data_loader = DataLoader.from_array_data(
    data=(
        jnp.linspace(0, 10, n_data),
        random.choice(random.PRNGKey(0), output_dim, shape=(n_data,)),
    )
)
from flax import linen as nn


class Model(nn.Module):
    output_dim: int

    @nn.compact
    def __call__(self, x, train: bool = False, **kwargs) -> jnp.ndarray:
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(5, name="l1")(x)
        x = nn.relu(x)
        x = nn.Dense(5, name="l2")(x)
        x = nn.relu(x)
        x = nn.Dense(self.output_dim, name="l3")(x)
        return x


from hoarfrost.prob_model import ProbClassifier, LaplacePosteriorApproximator

prob_model = ProbClassifier(
    model=Model(output_dim=output_dim),
    posterior_approximator=LaplacePosteriorApproximator(),
)
from hoarfrost.prob_model import FitConfig, FitOptimizer

status = prob_model.train(
    train_data_loader=train_data_loader,
    fit_config=FitConfig(
        optimizer=FitOptimizer(
            n_epochs=2,
            freeze_fun=lambda path, v: "trainable" if "l3" in path else "frozen",
        )
    ),
    map_fit_config=FitConfig(optimizer=FitOptimizer(n_epochs=2)),
)
# What follows is not on the page: it hands the results to the test.
fit_status = status["fit_status"]
params = prob_model.posterior.state.get().params["model"]["params"]
laplace = prob_model.posterior.laplace
diagonal = np.diag(laplace.precision()) - laplace.prior_precision
np.savez(
    sys.argv[1],
    diagonal=diagonal,
    loss=fit_status["map"]["loss"],
    **{f"{layer}_{leaf}": params[layer][leaf] for layer in params for leaf in params[layer]},
)
print(json.dumps({
    "keys": sorted(status), "fit": sorted(fit_status), "calib": status["calib_status"],
    "num_params": laplace.num_params, "laplace": fit_status["laplace"]["num_params"],
}))
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    arrays = tmp_path_factory.mktemp("page") / "arrays.npz"
    # Its own process, because JAX reads the flag of the page's random bits when it is imported.
    environment = os.environ | {"JAX_THREEFRY_PARTITIONABLE": "0", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", PAGE, str(arrays)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    with np.load(arrays) as loaded:
        return run, dict(loaded)


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as loaded:
        return dict(loaded)


def test_losses_are_those_of_the_page(page, reference):
    arrays = page[1]
    assert arrays["loss"].shape == (2,)
    # Two units in the last place of a float32 near 700.
    np.testing.assert_allclose(arrays["loss"], reference["map_losses"], rtol=0, atol=1.3e-4)
    np.testing.assert_allclose(arrays["loss"], [700.25977, 696.31512], rtol=0, atol=7e-5)


def test_progress_bar_reads_as_on_the_page(page):
    assert "Epoch: 2 | loss: 696.31512: 100%|" in page[0].stderr


def test_status_and_posterior(page):
    shown = json.loads(page[0].stdout.splitlines()[-1])
    assert shown == {
        "keys": ["calib_status", "fit_status"],
        "fit": ["laplace", "map"],
        "calib": None,
        "num_params": 60,
        "laplace": 60,
    }


@pytest.mark.parametrize("layer", ["l1", "l2", "l3"])
@pytest.mark.parametrize("leaf", ["kernel", "bias"])
def test_parameters_are_those_of_fortuna(page, reference, layer, leaf):
    name = f"{layer}_{leaf}"
    np.testing.assert_allclose(page[1][name], reference[name], rtol=0, atol=1e-8)


def test_diagonal_of_the_curvature_is_that_of_fortuna(page, reference):
    # Bias before kernel: the order in which the trainable tree is ravelled.
    expected = np.concatenate(
        [reference["l3_bias_hess_lik_diag"], reference["l3_kernel_hess_lik_diag"].ravel()]
    )
    # Fortuna computed it in float32.
    np.testing.assert_allclose(page[1]["diagonal"], expected, rtol=2e-5, atol=1e-6)
