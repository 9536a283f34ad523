"""Draws have the covariance that the posterior says, in every structure and by every way to them.

Draws are whitened by a root of the covariance from dense algebra. Their second moments are then
those of independent standard normal numbers: an entry's standard error over S draws is
``sqrt(2 / S)`` on the diagonal and ``1 / sqrt(S)`` off it, and no entry is 6 of them away.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from hoarfrost import fit_laplace
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.likelihood import (
    Bernoulli,
    Categorical,
    CustomLikelihood,
    Gaussian,
    HeteroscedasticGaussian,
    Poisson,
)
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

RNG = np.random.default_rng(5)
N, D = 14, 2
X = RNG.standard_normal((N, D)).astype(np.float32)
NUMBERS = RNG.standard_normal((N, 3)).astype(np.float32)
TARGETS = {
    "softmax": (Categorical(), 3, RNG.integers(0, 3, N)),
    "independent": (Bernoulli(), 3, RNG.integers(0, 2, (N, 3))),
    "poisson": (Poisson(), 3, RNG.integers(0, 4, (N, 3))),
    "gram": (Gaussian(0.7), 3, NUMBERS),
    "gram of several noises": (Gaussian((0.3, 0.7, 1.5)), 3, NUMBERS),
    "predicted noise": (HeteroscedasticGaussian(), 2, NUMBERS[:, :1]),
}
SUBSETS = {"head": lambda path, value: "head" in path[0], "body": lambda path, _: path[0] == "body"}


def network(params, x):
    return jnp.tanh(x @ params["body"]) @ params["head_w"] + params["head_b"]


def parameters(outputs):
    draw = np.random.default_rng(1).standard_normal
    return {
        "body": draw((D, 3)).astype(np.float32),
        "head_w": (0.4 * draw((3, outputs))).astype(np.float32),
        "head_b": (0.4 * draw(outputs)).astype(np.float32),
    }


def fit(kind, subset, structure="full", **options):
    likelihood, outputs, targets = TARGETS[kind]
    return fit_laplace(
        network,
        parameters(outputs),
        [(X, targets)],
        likelihood=options.pop("likelihood", likelihood),
        trainable=SUBSETS[subset],
        hessian_structure=structure,
        progress=False,
        **{"prior_precision": 0.5, **options},
    )


def check_white(draws, mean, covariance):
    """Draws ``(S, P)`` of a Gaussian with this mean and covariance."""
    count, size = draws.shape
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (draws.astype(np.float64) - mean).T)
    moments = white @ white.T / count
    bound = 6 * np.where(np.eye(size, dtype=bool), np.sqrt(2 / count), np.sqrt(1 / count))
    assert np.all(np.abs(moments - np.eye(size)) < bound)
    assert np.all(np.abs(white.mean(axis=1)) < 6 / np.sqrt(count))


def flat(tree):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("kind", TARGETS)
def test_sample(kind, subset, structure):
    posterior = fit(kind, subset, structure)
    covariance = np.linalg.inv(posterior.precision())
    check_white(flat(posterior.sample(3, 20_000)), posterior.mean, covariance)


def test_sample_where_outputs_have_priors_of_their_own():
    """A factor an output instead of one decomposition."""
    prior = {"head_w": np.full((3, 3), [0.2, 1.0, 3.0]), "head_b": 1.0}
    for kind in ("gram", "softmax", "independent"):
        posterior = fit(kind, "head", prior_precision=prior)
        covariance = np.linalg.inv(posterior.precision())
        check_white(flat(posterior.sample(4, 20_000)), posterior.mean, covariance)


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_sample_under_a_noise_that_was_tuned(structure):
    """The factor is scaled by the noise, not made again."""
    posterior = fit("gram", "body", structure)
    posterior.optimize_hyperparameters()
    assert abs(posterior.noise_std - 0.7) > 0.1
    covariance = np.linalg.inv(posterior.precision())
    check_white(flat(posterior.sample(5, 20_000)), posterior.mean, covariance)


@dataclasses.dataclass(frozen=True)
class Moments(CustomLikelihood):
    """Unit noise; what is called its mean are all first and second moments of the outputs."""

    def log_prob(self, outputs, targets):
        return -jnp.sum((outputs - targets) ** 2, axis=1) / 2

    def mean(self, outputs):
        squares = outputs[:, :, None] * outputs[:, None, :]
        return jnp.concatenate([outputs, squares.reshape(len(outputs), -1)], axis=1)


def second_moments(posterior, link, count):
    found = posterior.predict(X[:4], link, n_samples=count, seed=2).astype(np.float64)
    mean, squares = found[:, :3], found[:, 3:].reshape(-1, 3, 3)
    return mean, squares - mean[:, :, None] * mean[:, None, :]


def check_moments(mean, covariance, posterior, count):
    expected = posterior.functional_covariance(X[:4])
    outputs = np.asarray(network(parameters(3), X[:4]), np.float64)
    std = np.sqrt(np.einsum("bcc->bc", expected))
    assert np.all(np.abs(mean - outputs) < 6 * std / np.sqrt(count) + 1e-4)
    for n in range(4):
        inverse = np.linalg.inv(np.linalg.cholesky(expected[n]))
        white = inverse @ covariance[n] @ inverse.T
        # A singular direction of the outputs would only hold rounding: there is none here.
        assert np.all(np.abs(white - np.eye(3)) < 6 * np.sqrt(2 / count) + 1e-3)


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_predict_by_monte_carlo(subset, structure):
    posterior = fit("gram", subset, structure, likelihood=Moments())
    mean, covariance = second_moments(posterior, "mc", 20_000)
    check_moments(mean, covariance, posterior, 20_000)


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_predict_through_the_network(structure):
    """In a last layer the network is its own linearisation."""
    posterior = fit("gram", "head", structure, likelihood=Moments())
    mean, covariance = second_moments(posterior, "nn", 20_000)
    check_moments(mean, covariance, posterior, 20_000)


class Net(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs, name="head")(jnp.tanh(nn.Dense(3, name="body")(x)))


def head_only(path, value):
    return "trainable" if "head" in path and path[0] == "model" else "frozen"


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_the_front(kind, structure):
    approximator = LaplacePosteriorApproximator(False, hessian_structure=structure)
    quiet = FitMonitor(verbose=False)
    if kind == "classifier":
        model = ProbClassifier(Net(3), posterior_approximator=approximator)
        data = DataLoader.from_array_data((X, TARGETS["softmax"][2]))
    else:
        model = ProbRegressor(Net(1), Net(1), posterior_approximator=approximator)
        data = DataLoader.from_array_data((X, NUMBERS[:, :1]))
    model.train(
        data,
        fit_config=FitConfig(FitOptimizer(freeze_fun=head_only), monitor=quiet),
        map_fit_config=FitConfig(FitOptimizer(optax.sgd(1e-3), n_epochs=1), monitor=quiet),
    )
    laplace, count = model.posterior.laplace, 20_000
    samples = model.posterior.weight_samples(count, jax.random.PRNGKey(8))
    covariance = np.linalg.inv(laplace.precision())
    check_white(flat(samples.trainable), laplace.mean, covariance)
    # One draw at a time: each is one of the same Gaussian.
    draws = []
    for seed in range(300):
        params = model.posterior.sample(jax.random.PRNGKey(seed)).params
        draws.append(ravel_pytree(params["model"]["params"]["head"])[0])
    check_white(np.stack(draws), laplace.mean, covariance)
    inputs = InputsLoader.from_array_inputs(X[:2])
    for link in ("mc", "nn"):
        outputs = model.predictive.sample_calibrated_outputs(
            inputs, count, rng=jax.random.PRNGKey(9), link=link
        )
        centre = model.likelihood.get_outputs(model.posterior.state.get().params, inputs)
        expected = laplace.functional_covariance(X[:2])
        free = slice(None) if kind == "classifier" else slice(0, 1)
        for n in range(2):
            of_point = np.asarray(outputs[:, n, free])
            check_white(of_point, np.asarray(centre[n, free]), expected[n, free, free])
