"""What a model's likelihood says at one point of its parameters, against NumPy."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)
from hoarfrost.prob_model.likelihood import ClassificationLikelihood

RNG = np.random.default_rng(0)
X = np.float32(RNG.normal(size=(7, 3)))
INPUTS = InputsLoader.from_array_inputs(X, batch_size=4)
CONFIG = FitConfig(
    optimizer=FitOptimizer(method=optax.sgd(0.01), n_epochs=1), monitor=FitMonitor(verbose=False)
)
EPS = np.finfo(np.float32).eps
MAP = MAPPosteriorApproximator()


class Net(nn.Module):
    width: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.width)(x)


@pytest.fixture(scope="module")
def classifier():
    model = ProbClassifier(Net(3), posterior_approximator=MAP)
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    model.train(DataLoader.from_array_data((X, labels), batch_size=4), fit_config=CONFIG)
    return model


@pytest.fixture(scope="module")
def regressor():
    model = ProbRegressor(Net(1), Net(1), posterior_approximator=MAP)
    targets = np.float32(RNG.normal(size=(7, 1)))
    model.train(DataLoader.from_array_data((X, targets), batch_size=4), fit_config=CONFIG)
    return model


def at(model):
    return model.likelihood, model.posterior.state.get().params


def test_moments_and_entropy_of_a_classifier(classifier):
    likelihood, params = at(classifier)
    logits = np.asarray(likelihood.get_outputs(params, INPUTS), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(likelihood.variance(params, INPUTS), p * (1 - p), rtol=30 * EPS)
    np.testing.assert_allclose(likelihood.std(params, INPUTS), np.sqrt(p * (1 - p)), rtol=30 * EPS)
    entropy = -(p * np.log(p)).sum(1)
    np.testing.assert_allclose(likelihood.entropy(params, INPUTS), entropy, rtol=30 * EPS)
    calib = {"output_calibrator": {"params": {"log_temp": np.float32([np.log(2.0)])}}}
    cooled = np.exp(logits / 2) / np.exp(logits / 2).sum(1, keepdims=True)
    np.testing.assert_allclose(
        likelihood.variance(params, INPUTS, calib_params=calib),
        cooled * (1 - cooled),
        rtol=30 * EPS,
    )


def test_draws_of_a_classifier(classifier):
    likelihood, params = at(classifier)
    p = np.asarray(likelihood.mean(params, INPUTS), np.float64)
    count = 4000
    drawn, aux = likelihood.sample(count, params, INPUTS, return_aux=["outputs"], rng=1)
    assert drawn.shape == (count, 7) and drawn.dtype == np.int32
    np.testing.assert_array_equal(aux["outputs"], likelihood.get_outputs(params, INPUTS))
    one_hot = np.eye(3)[np.asarray(drawn)]
    # Six standard errors of a frequency, and of a covariance of the one-hot label.
    np.testing.assert_allclose(one_hot.mean(0), p, atol=6 * 0.5 / np.sqrt(count))
    for point in range(7):
        expected = np.diag(p[point]) - np.outer(p[point], p[point])
        found = np.cov(one_hot[:, point].T)
        np.testing.assert_allclose(found, expected, atol=6 * 0.5 / np.sqrt(count))


def test_draws_of_a_regressor(regressor):
    likelihood, params = at(regressor)
    mean = np.asarray(likelihood.mean(params, INPUTS), np.float64)[:, 0]
    variance = np.asarray(likelihood.variance(params, INPUTS), np.float64)[:, 0]
    count = 4000
    drawn = np.asarray(likelihood.sample(count, params, INPUTS, rng=jax.random.PRNGKey(2)))
    assert drawn.shape == (count, 7, 1)
    std = np.sqrt(variance)
    np.testing.assert_array_less(np.abs(drawn[:, :, 0].mean(0) - mean), 6 * std / np.sqrt(count))
    scaled = (drawn[:, :, 0] - mean) / std
    np.testing.assert_allclose(np.cov(scaled.T), np.eye(7), atol=6 * np.sqrt(2 / count))


def test_keys_of_draws(classifier):
    likelihood, params = at(classifier)
    same = [likelihood.sample(5, params, INPUTS, rng=3) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    own = [np.asarray(likelihood.sample(50, params, INPUTS)) for _ in range(2)]
    assert (own[0] != own[1]).any()
    alone = ClassificationLikelihood(likelihood.network, likelihood.output)
    with pytest.raises(InvalidArgumentError, match="rng is None"):
        alone.sample(5, params, INPUTS)
    np.testing.assert_array_equal(alone.sample(5, params, INPUTS, rng=3), same[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_target_samples": 0}, "n_target_samples is 0"),
        ({"n_target_samples": 10**12}, "n_target_samples is 1000000000000; give at most"),
        ({"rng": -1}, "rng is -1"),
        ({"return_aux": ["logits"]}, "return_aux holds 'logits'"),
        ({"return_aux": "outputs"}, "return_aux is 'outputs'"),
        ({"return_aux": 3}, "return_aux is 3"),
    ],
)
def test_bad_arguments_of_draws(classifier, given, message):
    likelihood, params = at(classifier)
    arguments = {"n_target_samples": 2, "params": params, "inputs_loader": INPUTS, **given}
    with pytest.raises(InvalidArgumentError, match=message):
        likelihood.sample(**arguments)


@pytest.mark.parametrize("log_variance", [-90.0, -60.0, 60.0, 90.0])
def test_log_densities_and_quantiles_of_extreme_noise(regressor, log_variance):
    stats = pytest.importorskip("scipy.stats")
    likelihood, params = at(regressor)
    params = jax.tree.map(np.zeros_like, params)
    params["lik_log_var"]["params"]["Dense_0"]["bias"] += np.float32(log_variance)
    std = np.exp(np.float64(log_variance) / 2)
    targets = (1.5 * std * np.ones((7, 1))).astype(np.float32)
    data = DataLoader.from_array_data((X, targets), batch_size=4)
    expected = stats.norm.logpdf(targets[:, 0].astype(float), 0, std)
    np.testing.assert_allclose(likelihood.log_prob(params, data), expected, rtol=8 * EPS)
    levels = [1e-40, 1e-9, 0.3, 1 - 1e-12]
    np.testing.assert_allclose(
        likelihood.quantile(levels, params, INPUTS)[:, 0, 0],
        stats.norm.ppf(levels) * std,
        rtol=1e-5,
    )
    if log_variance == 90.0:
        with pytest.raises(NonFiniteError, match="too large for float32"):
            likelihood.variance(params, INPUTS)
    if log_variance == -90.0:
        far = DataLoader.from_array_data((X, np.ones((7, 1), np.float32)), batch_size=4)
        with pytest.raises(NonFiniteError, match=r"a log-density is -6\.1.*e\+38 at index"):
            likelihood.log_prob(params, far)


def test_predictive_log_probs_are_those_of_float64(classifier, regressor):
    stats = pytest.importorskip("scipy.stats")
    shift = np.float32(2.0**24)
    params = jax.tree.map(np.zeros_like, regressor.posterior.state.get().params)
    params["model"]["params"]["Dense_0"]["bias"] += shift
    targets = np.full((7, 1), 2.0**24 + 1)
    data = DataLoader.from_array_data((X, targets), batch_size=4)
    found = regressor.likelihood.log_prob(params, data)
    np.testing.assert_allclose(found, stats.norm.logpdf(1.0), rtol=8 * EPS)
    state = regressor.posterior.state.get()
    regressor.posterior.state.put(type(state)(params=params))
    for values in (
        regressor.predictive.log_prob(data),
        regressor.predictive.ensemble_log_prob(data, 3),
    ):
        np.testing.assert_allclose(values, stats.norm.logpdf(1.0), rtol=8 * EPS)
    regressor.posterior.state.put(state)


NO_TREE = [
    True,
    "a",
    1j,
    3,
    10**400,
    np.arange(2),
    [1],
    (1, 2),
    object(),
    {"model": None},
    {"other": {"params": {}}},
    {"model": {"params": {"a": np.array("a")}}},
    {"model": {"params": {"a": np.ones(2) + 0j}}},
]


@pytest.mark.parametrize("argument", ["params", "mutable", "calib_params", "calib_mutable"])
@pytest.mark.parametrize("bad", NO_TREE, ids=range(len(NO_TREE)))
def test_variables_that_are_none(classifier, argument, bad):
    likelihood, params = at(classifier)
    for method in (likelihood.mean, likelihood.std):
        with pytest.raises(InvalidArgumentError, match=argument):
            method(**{"params": params, "inputs_loader": INPUTS, argument: bad})


@pytest.mark.parametrize("bad", [True, "a", 1j, {}, [], -np.ones((7, 1)), [np.nan], object()])
def test_variances_that_are_none(classifier, bad):
    likelihood, params = at(classifier)
    with pytest.raises((InvalidArgumentError, ShapeError), match=r"variance (is|have shape|hold)"):
        likelihood.std(params, INPUTS, variance=bad)
