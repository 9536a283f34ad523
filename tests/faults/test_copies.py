"""Copies of a posterior, by `copy` and by `pickle`: the same bits, and changed by themselves."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from flax import linen as nn
from posteriors import STRUCTURES, Problem

import hoarfrost
from hoarfrost.errors import CopyError, HoarfrostError
from hoarfrost.prob_model import FitConfig, FitMonitor, FitOptimizer, ProbClassifier

COPIES = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_copy_has_the_same_bits_and_is_its_own(structure, way):
    problem = Problem(structure, 60, 12)
    posterior = problem.fit()
    other = COPIES[way](posterior)
    np.testing.assert_array_equal(other.precision(), posterior.precision())
    np.testing.assert_array_equal(
        other.functional_variance(problem.x), posterior.functional_variance(problem.x)
    )
    variance, evidence = posterior.variance(), posterior.log_marginal_likelihood()
    if other.curvature is not None:
        other.optimize_prior_precision()
        assert other.log_marginal_likelihood() > evidence
    assert posterior.log_marginal_likelihood() == evidence
    np.testing.assert_array_equal(posterior.variance(), variance)


def test_a_pickle_crosses_processes(tmp_path):
    """In a script of its own, as its functions are found by their names."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, pickle, sys\n"
        "import jax.numpy as jnp, numpy as np, hoarfrost\n"
        "def apply(params, x):\n    return x @ params['w']\n"
        "def variance(posterior):\n    return posterior.variance()\n"
        "if __name__ == '__main__':\n"
        "    loader = [(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))]\n"
        "    params = {'w': jnp.ones((4, 3))}\n"
        "    posterior = hoarfrost.fit_laplace(apply, params, loader, progress=False)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        found = pool.apply(variance, (posterior,))\n"
        "    assert np.array_equal(found, posterior.variance())\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)


def test_a_model_that_pickle_cannot_take_is_named():
    loader = [(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))]
    posterior = hoarfrost.fit_laplace(
        lambda params, x: x @ params["w"],
        {"w": np.ones((4, 3), np.float32)},
        loader,
        progress=False,
    )
    variance = posterior.variance()
    with pytest.raises(CopyError, match=r"save\(path\).*load_laplace") as caught:
        pickle.dumps(posterior)
    assert isinstance(caught.value, HoarfrostError) and isinstance(caught.value, TypeError)
    np.testing.assert_array_equal(posterior.variance(), variance)
    np.testing.assert_array_equal(copy.deepcopy(posterior).variance(), variance)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_a_fitted_model_is_copied_with_its_posterior(way):
    model = ProbClassifier(model=Net())
    COPIES[way](model)
    config = FitConfig(monitor=FitMonitor(verbose=False), optimizer=FitOptimizer(n_epochs=1))
    data = [(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))]
    model.train(data, fit_config=FitConfig(monitor=config.monitor), map_fit_config=config)
    other = COPIES[way](model)
    inputs = hoarfrost.data.InputsLoader.from_array_inputs(data[0][0])
    np.testing.assert_array_equal(
        other.predictive.mean(inputs, rng=np.uint32([0, 1])),
        model.predictive.mean(inputs, rng=np.uint32([0, 1])),
    )
    np.testing.assert_array_equal(
        other.posterior.laplace.precision(), model.posterior.laplace.precision()
    )
