"""A forked child says at once that JAX is not there; the core works in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

SETUP = """
import multiprocessing, os, sys, tempfile, warnings
warnings.simplefilter("ignore")
import jax, numpy as np, optax
from flax import linen as nn
import hoarfrost
from hoarfrost import calibration, fit_laplace, metric
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.data.prefetch import prefetched
from hoarfrost.errors import ForkedProcessError
from hoarfrost.prob_model import FitConfig, FitMonitor, FitOptimizer, MAPPosteriorApproximator
from hoarfrost.prob_model import ProbClassifier
x = np.random.default_rng(0).normal(size=(20, 3)).astype("f4")
y = np.arange(20) % 2
inputs = InputsLoader.from_array_inputs(x)
params = {"w": np.ones((3, 2), "f4")}

def apply(params, x):
    return x @ params["w"]

def fit():
    return fit_laplace(apply, params, [(x, y)], progress=False)

def make_model():
    return ProbClassifier(nn.Dense(2), posterior_approximator=MAPPosteriorApproximator())

def train(model):
    quiet = FitMonitor(verbose=False)
    model.train(DataLoader.from_array_data((x, y)), fit_config=FitConfig(
        FitOptimizer(optax.sgd(1e-2), n_epochs=1), monitor=quiet))
    return model

def refused(name, call):
    try:
        call()
    except ForkedProcessError as error:
        assert str(os.getpid()) in str(error), error
    else:
        raise AssertionError(name)

def in_child(call):
    pid = os.fork()
    if pid == 0:
        try:
            call()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""

AFTER = """
posterior = fit()
model = train(make_model())
evidence, precision = posterior.log_marginal_likelihood(), posterior.precision()
calibrator = calibration.OutputCalibrator(calibration.ClassificationTemperatureScaler())
key = jax.random.PRNGKey(0)
variables = calibrator.init(2, key)
folder = tempfile.TemporaryDirectory()
begun = prefetched(iter(range(100)))
next(begun)

def child():
    calls = {
        "predict": lambda: posterior.predict(x),
        "predict nn": lambda: posterior.predict(x, "nn", 4),
        "predict mc": lambda: posterior.predict(x, "mc", 4),
        "log_prob": lambda: posterior.log_prob([(x, y)]),
        "functional_variance": lambda: posterior.functional_variance(x),
        "joint": lambda: posterior.functional_covariance(x, joint=True),
        "sample": lambda: posterior.sample(0, 3),
        "optimize_on": lambda: posterior.optimize_on([(x, y)]),
        "fit": fit,
        "train": lambda: train(make_model()),
        "train again": lambda: train(model),
        "mean": lambda: model.predictive.mean(inputs),
        "mean with a seed": lambda: model.predictive.mean(inputs, rng=0),
        "accuracy": lambda: metric.accuracy(y, y),
        "root_mean_squared_error": lambda: metric.root_mean_squared_error(x, x),
        "log-density of a metric": lambda: metric.negative_log_likelihood(x[:, :2], y, log=True),
        "calibrator.init": lambda: calibrator.init(2, key),
        "calibrator": lambda: calibrator(variables, x[None, :, :2]),
        "fit_calibrator": lambda: calibration.fit_calibrator(calibrator, variables,
            model.likelihood.calibration_statistics, [(x[None, :, :2], y)],
            optimizer=optax.sgd(1e-2), n_epochs=1, verbose=False),
        "old iterator": lambda: next(begun),
        "save_state": lambda: model.save_state(folder.name),
        "load_state": lambda: model.load_state(folder.name),
    }
    for name, call in calls.items():
        refused(name, call)
    assert posterior.log_marginal_likelihood() == evidence
    assert posterior.log_marginal_likelihood(2.0) < 0
    np.testing.assert_array_equal(posterior.precision(), precision)
    np.testing.assert_allclose(np.diagonal(posterior.covariance()), posterior.variance())
    assert list(prefetched(iter(range(9)))) == list(range(9)), "a new iterator works"
    in_child(lambda: refused("a child of a child", lambda: posterior.predict(x)))

"""

CASES = {
    "os.fork": AFTER + "in_child(child)\nposterior.predict(x)\n",
    "multiprocessing": AFTER
    + """
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
assert process.exitcode == 0, process.exitcode
""",
    "before JAX was used": """
def child():
    posterior = fit()
    posterior.predict(x), posterior.sample(0, 2), train(make_model()).predictive.mean(inputs)

in_child(child)
""",
}


@pytest.mark.parametrize("name", CASES)
def test_forked(name):
    done = subprocess.run(
        [sys.executable, "-c", SETUP + CASES[name]],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
