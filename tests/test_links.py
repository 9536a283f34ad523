"""Links from Gaussian logits to log-probabilities against quadrature and written-out formulas."""

from __future__ import annotations

import numpy as np
import pytest

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson
from hoarfrost.predictive.gaussian_outputs import draw_outputs
from hoarfrost.predictive.link import choose_link, quantity_of
from hoarfrost.predictive.link.bridge import bridge, log_concentration
from hoarfrost.predictive.link.probit import probit
from hoarfrost.predictive.mixture import LogProbabilities, TargetLogProb

RNG = np.random.default_rng(0)


def prediction_link(likelihood, name):
    return choose_link(quantity_of(likelihood), likelihood, name).name


def log_prob_link(likelihood, name):
    return choose_link("density", likelihood, name).name


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def covariances(count, num_outputs):
    roots = RNG.normal(size=(count, num_outputs, num_outputs))
    return roots @ roots.swapaxes(1, 2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_probit_of_one_logit_is_near_the_integral():
    mean, variance = np.meshgrid(np.linspace(-6, 6, 25), np.geomspace(0.01, 50, 20))
    logits = mean[..., None] + np.sqrt(variance)[..., None] * NODES
    integral = sigmoid(logits) @ WEIGHTS / WEIGHTS.sum()
    outputs, variances = mean.reshape(-1, 1), variance.reshape(-1, 1)
    got = np.exp(probit(Bernoulli(), outputs, variances))
    assert np.abs(got - integral.reshape(-1, 1)).max() < 0.02
    # Without the variance it would be much farther off.
    assert np.abs(sigmoid(outputs) - integral.reshape(-1, 1)).max() > 0.2


def test_probit_of_classes_by_hand():
    outputs, variance = RNG.normal(size=(7, 4)), RNG.random((7, 4)) * 5
    scaled = outputs / np.sqrt(1 + np.pi / 8 * variance)
    expected = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    got = np.exp(probit(Categorical(), outputs, variance))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("num_outputs", [2, 3, 6])
def test_bridge_by_its_formula(num_outputs):
    outputs, covariance = RNG.normal(size=(5, num_outputs)) * 3, covariances(5, num_outputs)
    one = np.ones(num_outputs)
    for n in range(5):
        total = one @ covariance[n] @ one
        mean = outputs[n] - covariance[n] @ one * outputs[n].sum() / total
        sigma = covariance[n] - np.outer(covariance[n] @ one, covariance[n] @ one) / total
        alpha = (
            1 - 2 / num_outputs + np.exp(mean) / num_outputs**2 * np.exp(-mean).sum()
        ) / np.diag(sigma)
        one_point = outputs[n : n + 1], covariance[n : n + 1]
        np.testing.assert_allclose(np.exp(log_concentration(*one_point))[0], alpha, rtol=1e-9)
        np.testing.assert_allclose(np.exp(bridge(*one_point))[0], alpha / alpha.sum(), rtol=1e-9)


def test_bridge_inverts_the_gaussian_of_a_dirichlet():
    """The Gaussian that a Dirichlet has in softmax coordinates leads back to that Dirichlet."""
    alpha = np.array([0.7, 3.0, 11.0, 2.0])
    count = len(alpha)
    centring = np.eye(count) - 1 / count
    mean = centring @ np.log(alpha)
    covariance = centring @ np.diag(1 / alpha) @ centring
    got = log_concentration(mean[None], covariance[None])
    np.testing.assert_allclose(np.exp(got)[0], alpha, rtol=1e-9)


def test_a_common_shift_of_logits_changes_nothing():
    outputs = RNG.normal(size=(4, 3))
    covariance = np.eye(3)[None] * 0.3 + np.zeros((4, 1, 1))
    expected = bridge(outputs, covariance)
    np.testing.assert_allclose(bridge(outputs + 5, covariance), expected, rtol=1e-9)
    np.testing.assert_allclose(bridge(outputs, covariance + 7), expected, rtol=1e-9)


@pytest.mark.parametrize("variance", [0.0, 1e-3, 1.0, 1e6])
def test_log_probabilities_of_huge_logits_are_finite(variance, strict):
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]])
    covariance = np.eye(3)[None] * variance + np.zeros((2, 1, 1))
    spread = np.full((2, 3), variance)
    results = [
        probit(Categorical(), logits, spread),
        probit(Bernoulli(), logits, spread),
        bridge(logits, covariance),
    ]
    for dtype in (np.float32, np.float64):
        samples = draw_outputs(logits.astype(dtype), covariance, 0, 0, 9)
        results.append(np.asarray(LogProbabilities(Categorical())(samples)))
        results.append(np.asarray(LogProbabilities(Bernoulli())(samples)))
        for label in range(3):
            targets = np.full(2, label)
            results.append(np.asarray(TargetLogProb(Categorical())(samples, targets)))
    for result in results:
        assert np.isfinite(result).all()
        assert (result <= 0).all()
    assert probit(Categorical(), logits, np.zeros((2, 3)))[0, 2] == -2e4


def test_two_classes_equal_one_logit_with_the_same_draws():
    """Softmax of (f / 2, -f / 2) is the sigmoid of f: the same draws give the same numbers."""
    mean, variance = RNG.normal(size=(6, 1)), RNG.random(6) + 0.1
    one = draw_outputs(mean, variance[:, None, None], 3, 0, 500)
    pair = np.concatenate([one / 2, -one / 2], axis=2)
    np.testing.assert_allclose(
        LogProbabilities(Categorical())(pair)[:, :1],
        LogProbabilities(Bernoulli())(one),
        rtol=1e-5,
    )
    labels = np.array([0, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        TargetLogProb(Categorical())(pair, 1 - labels),
        TargetLogProb(Bernoulli())(one, labels),
        rtol=1e-5,
    )


def test_draws_have_the_covariance_and_depend_on_seed_and_index():
    outputs, covariance = RNG.normal(size=(2, 3)), covariances(2, 3)
    draws = draw_outputs(outputs, covariance, 5, 60, 40_000)
    assert draws.shape == (40_000, 2, 3)
    for n in range(2):
        scale = np.sqrt(np.outer(np.diag(covariance[n]), np.diag(covariance[n])))
        error = np.abs(np.cov(draws[:, n].T) - covariance[n]) / scale
        assert error.max() < 5 * np.sqrt(2 / 40_000)
    second = draw_outputs(outputs[1:], covariance[1:], 5, 61, 40_000)
    np.testing.assert_array_equal(second[:, 0], draws[:, 1])
    assert np.any(draw_outputs(outputs, covariance, 6, 60, 3) != draws[:3])


@pytest.mark.parametrize(
    ("likelihood", "default", "others"),
    [
        (Categorical(), "probit", ["mc", "bridge", "nn"]),
        (Bernoulli(), "probit", ["mc", "nn"]),
        (Gaussian(), "closed", ["nn"]),
        (HeteroscedasticGaussian(), "closed", ["nn"]),
        (Poisson(), "closed", ["nn"]),
    ],
)
def test_which_links_a_likelihood_has(likelihood, default, others):
    assert prediction_link(likelihood, None) == default
    for name in others:
        assert prediction_link(likelihood, name) == name
    for name in {"probit", "mc", "bridge", "nn", "closed", "logit", 3} - {default, *others}:
        with pytest.raises(InvalidArgumentError, match=f"link is {name!r}; give one of"):
            prediction_link(likelihood, name)
    if default == "closed":
        with pytest.raises(InvalidArgumentError, match="leave it out for the closed form"):
            prediction_link(likelihood, "closed")


def test_which_links_a_density_has():
    assert log_prob_link(Gaussian(), None) == "closed"
    assert log_prob_link(Gaussian(), "mc") == "mc"
    assert log_prob_link(Poisson(), None) == "mc"
    assert log_prob_link(Categorical(), None) == "probit"
    with pytest.raises(InvalidArgumentError, match="link is 'probit'; give one of 'mc', 'nn' for"):
        log_prob_link(HeteroscedasticGaussian(), "probit")
