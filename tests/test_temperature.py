"""A power on the likelihood: closed forms, evidence, and both numbers by held-out data."""

import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.likelihood import Gaussian

RNG = np.random.default_rng(0)
D, H, C, N = 4, 5, 3, 30
X = RNG.normal(size=(N, D)).astype(np.float32)
PARAMS = {
    "body": RNG.normal(size=(D, H)).astype(np.float32),
    "head": {
        "w": RNG.normal(size=(H, C)).astype(np.float32),
        "b": RNG.normal(size=C).astype(np.float32),
    },
}
TARGETS = {
    "categorical": RNG.integers(0, C, N),
    "bernoulli": RNG.integers(0, 2, (N, C)),
    "poisson": RNG.poisson(2.0, (N, C)),
    "gaussian": RNG.normal(size=(N, C)).astype(np.float32),
    "each": RNG.normal(size=(N, C)).astype(np.float32),
}
# Of labels and numbers without sense.
pytestmark = pytest.mark.filterwarnings("ignore:the .* lies at a bound")
CASES = pytest.mark.parametrize("likelihood", TARGETS)
OF = pytest.mark.parametrize("part", ["head", "every"])


def network(params, x):
    return jnp.tanh(x @ params["body"]) @ params["head"]["w"] + params["head"]["b"]


def fitted(likelihood, part="head", **options):
    return hoarfrost.fit_laplace(
        network,
        PARAMS,
        [(X, TARGETS[likelihood])],
        likelihood=Gaussian((0.5, 1.0, 2.0)) if likelihood == "each" else likelihood,
        trainable=(lambda path, _: "head" in path) if part == "head" else None,
        progress=False,
        **options,
    )


@CASES
@OF
@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_the_curvature_is_divided_by_it(likelihood, part, structure):
    plain = fitted(likelihood, part, hessian_structure=structure, prior_precision=0.5)
    curvature = plain.precision() - 0.5 * np.eye(plain.num_params)
    tempered = plain.with_temperature(0.3)
    expected = curvature / 0.3 + 0.5 * np.eye(plain.num_params)
    np.testing.assert_allclose(tempered.precision(), expected, rtol=1e-9, atol=1e-9)
    # At once, or from the first fit: the same bits.
    fresh = fitted(
        likelihood, part, hessian_structure=structure, prior_precision=0.5, temperature=0.3
    )
    np.testing.assert_array_equal(fresh.precision(), tempered.precision())
    assert fresh.temperature == tempered.temperature == 0.3 and plain.temperature == 1.0
    evidence = fresh.log_marginal_likelihood()
    assert evidence == tempered.log_marginal_likelihood()
    deviation = plain.deviation
    log_det = np.linalg.slogdet(expected)[1]
    by_hand = plain.log_likelihood / 0.3 + 0.5 * (
        plain.num_params * np.log(0.5) - 0.5 * deviation @ deviation - log_det
    )
    np.testing.assert_allclose(evidence, by_hand, rtol=1e-10)
    # And back.
    np.testing.assert_allclose(
        tempered.with_temperature(1.0).precision(), plain.precision(), rtol=1e-12, atol=1e-12
    )


@CASES
@OF
@pytest.mark.parametrize("structure", ["scalar", "layerwise"])
def test_the_evidence_is_tuned_at_a_temperature(likelihood, part, structure):
    posterior = fitted(likelihood, part, temperature=2.5)
    posterior.optimize_prior_precision(structure)
    assert posterior.tuning.converged and posterior.temperature == 2.5
    best = posterior.log_marginal_likelihood()
    assert best == pytest.approx(posterior.tuning.evidence, rel=1e-12)
    value = posterior.prior_precision
    for factor in (0.98, 1.02):
        if structure == "scalar":
            nearby = [value * factor]
        else:
            head = value["head"]
            nearby = [{**value, "head": {"w": head["w"] * factor, "b": head["b"] * factor}}]
        assert all(posterior.log_marginal_likelihood(one) <= best + 1e-9 for one in nearby)


@pytest.mark.parametrize("likelihood", ["gaussian", "each"])
@OF
def test_noise_is_tuned_at_a_temperature(likelihood, part):
    posterior = fitted(likelihood, part, temperature=0.4)
    posterior.optimize_hyperparameters()
    best, noise = posterior.log_marginal_likelihood(), posterior.noise_std
    assert best == pytest.approx(posterior.tuning.evidence, rel=1e-12)
    for factor in (0.98, 1.02):
        other = factor * noise if isinstance(noise, float) else [factor * s for s in noise]
        assert posterior.log_marginal_likelihood(noise_std=other) < best
        prior = posterior.prior_precision * factor
        assert posterior.log_marginal_likelihood(prior) < best


@OF
def test_of_a_curvature_that_is_not_kept(part):
    posterior = fitted("categorical", part, keep_curvature=False)
    if part == "every":  # it comes back from the factor
        np.testing.assert_allclose(
            posterior.with_temperature(2.0).precision(),
            fitted("categorical", part, temperature=2.0).precision(),
            rtol=1e-9,
            atol=1e-9,
        )
    else:
        with pytest.raises(InvalidArgumentError, match="temperature cannot be changed"):
            posterior.with_temperature(2.0)


@pytest.mark.parametrize("temperature", [0, -1.0, np.inf, np.nan, "1", None, True, 1e-300, [1.0]])
def test_no_temperatures(temperature):
    with pytest.raises(InvalidArgumentError, match="temperature is"):
        fitted("categorical", temperature=temperature)
    with pytest.raises(InvalidArgumentError, match="temperature is"):
        fitted("categorical").with_temperature(temperature)


HELD = [(RNG.normal(size=(40, D)).astype(np.float32), RNG.integers(0, C, 40))]
HELD_NUMBERS = [(HELD[0][0], RNG.normal(size=(40, C)).astype(np.float32))]
LINKS = [
    ("categorical", "probit"),
    ("categorical", "mc"),
    ("categorical", "nn"),
    ("gaussian", None),
    ("gaussian", "nn"),
]


@pytest.mark.parametrize(("likelihood", "link"), LINKS)
def test_prior_and_temperature_by_held_out_data(likelihood, link):
    data = HELD if likelihood == "categorical" else HELD_NUMBERS
    posterior = fitted(likelihood)
    asked = {"link": link, "n_samples": 20}
    before = posterior.log_prob(data, **asked).mean(dtype=float)
    prior, temperature = posterior.optimize_on(
        data, ("prior_precision", "temperature"), low=0.05, high=20.0, grid_size=5, **asked
    )
    certificate = posterior.held_out
    assert (prior, temperature) == (posterior.prior_precision, posterior.temperature)
    assert (prior, temperature) == (certificate.prior_precision, certificate.temperature)
    assert certificate.log_prob_before == pytest.approx(before, rel=1e-6)
    best = posterior.log_prob(data, **asked).mean(dtype=float)
    assert certificate.log_prob == pytest.approx(best, rel=1e-6, abs=1e-6)
    plain = fitted(likelihood)
    for s in np.geomspace(0.05, 20, 7):
        for t in np.geomspace(0.05, 20, 7):
            other = plain.with_prior_precision(s).with_temperature(t)
            assert other.log_prob(data, **asked).mean(dtype=float) <= best + 2e-3
    for name, slope in zip(certificate.parameters, certificate.gradient, strict=True):
        assert abs(slope) < 0.02 or name in certificate.at_bound
    # It is the posterior that a fit with both would give.
    fresh = fitted(likelihood, prior_precision=prior, temperature=temperature)
    np.testing.assert_allclose(posterior.covariance(), fresh.covariance(), rtol=1e-8, atol=1e-12)


def test_the_temperature_alone():
    posterior = fitted("categorical")
    found = posterior.optimize_on(HELD, "temperature", low=1e-3, high=1e3)
    assert posterior.temperature == found and posterior.prior_precision == 1.0
    best = posterior.log_prob(HELD).mean(dtype=float)
    for t in np.geomspace(1e-3, 1e3, 25):
        other = fitted("categorical", temperature=t).log_prob(HELD).mean(dtype=float)
        assert other <= best + 1e-4


def test_a_temperature_at_a_bound_is_said():
    posterior = fitted("categorical")
    with pytest.warns(UserWarning, match="temperature that predicts .* lies at a bound"):
        posterior.optimize_on(HELD, "temperature", low=0.9, high=1.0)
    assert posterior.held_out.at_bound == ("temperature",)


@pytest.mark.parametrize("parameters", ["noise", [], ("temperature",) * 2, None, 3, ("prior",)])
def test_no_parameters(parameters):
    with pytest.raises(InvalidArgumentError, match="parameters is"):
        fitted("categorical").optimize_on(HELD, parameters)


def test_a_certificate_goes_with_what_it_certified(tmp_path):
    posterior = fitted("gaussian")
    posterior.optimize_on(HELD_NUMBERS, ["temperature", "prior_precision"], low=0.1, high=10.0)
    posterior.save(tmp_path / "file")
    again = hoarfrost.load_laplace(tmp_path / "file", model=network)
    assert again.held_out == posterior.held_out and again.temperature == posterior.temperature
    np.testing.assert_array_equal(again.precision(), posterior.precision())
    assert posterior.with_temperature(2.0).held_out is None
    assert posterior.with_prior_precision(2.0).held_out is None
    posterior.optimize_prior_precision()
    assert posterior.held_out is None and posterior.tuning is not None


def test_predictions_spread_with_it():
    cold, warm = (fitted("gaussian", temperature=t) for t in (1e-9, 1e9))
    np.testing.assert_allclose(cold.functional_variance(X), 0, atol=1e-7)
    prior = fitted("gaussian", prior_precision=1.0)
    features = np.concatenate([np.tanh(X @ PARAMS["body"]), np.ones((N, 1))], axis=1)
    np.testing.assert_allclose(
        warm.functional_variance(X), np.square(features).sum(1)[:, None] * np.ones(C), rtol=1e-4
    )
    assert prior.temperature == 1.0
