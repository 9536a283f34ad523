"""A prior that rounding swallows is an error wherever a prior enters, and any other is not."""

from __future__ import annotations

import numpy as np
import pytest

from hoarfrost import fit_laplace
from hoarfrost.errors import NotPositiveDefiniteError, PriorTooSmallError
from hoarfrost.likelihood import Gaussian

NUM_DATA, PAIRS = 300, 40

pytestmark = pytest.mark.usefixtures("x64")


def last_layer(params, x):
    return x @ params["w"]


@pytest.fixture(scope="module")
def pairs():
    """Features in equal pairs: every difference of a pair is seen by the prior alone."""
    generator = np.random.default_rng(0)
    features = np.repeat(60 * generator.standard_normal((NUM_DATA, PAIRS)), 2, axis=1)
    return features, generator


def fit(pairs, kind, prior_precision, **options):
    features, _ = pairs
    generator = np.random.default_rng(1)
    outputs = 2 if kind == "gaussian" else 3
    weights = 1e-3 * generator.standard_normal((2 * PAIRS, outputs))
    if kind == "gaussian":
        options["likelihood"] = Gaussian(0.5)
        targets = generator.standard_normal((NUM_DATA, outputs))
    else:
        targets = generator.integers(0, outputs, NUM_DATA)
    apply = last_layer
    if kind == "full":
        weights = weights[:, :1]
        options["likelihood"] = "poisson"
        targets, apply = generator.poisson(1.0, (NUM_DATA, 1)), general
    return fit_laplace(
        apply,
        {"w": weights},
        [(features, targets)],
        prior_precision=prior_precision,
        progress=False,
        **options,
    )


def general(params, x):
    """A product of two parameters for each feature is no layer."""
    return x @ (params["w"] * (1 + 0 * params["w"][::-1]))


KINDS = ["softmax", "gaussian", "full"]


def difference_variance(posterior, prior_precision):
    """Of the difference of the first pair's weights for one output, which should be 2 / tau; 1."""
    outputs = posterior.linearised.num_outputs
    covariance = posterior.covariance().reshape(2 * PAIRS, outputs, 2 * PAIRS, outputs)
    block = covariance[:2, 0, :2, 0]
    return float(block[0, 0] + block[1, 1] - 2 * block[0, 1]) * prior_precision / 2


def least_of(pairs, kind):
    with pytest.raises(NotPositiveDefiniteError) as caught:
        fit(pairs, kind, 1e-12)
    return caught.value.least_prior_precision


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_refused_is_right(pairs, kind):
    """Around the least: by the dense covariance, by solves and by blocks, and by the evidence."""
    least = least_of(pairs, kind)
    direction = np.zeros((1, 2 * PAIRS))
    direction[0, :2] = 1, -1
    refused, passed = [], []
    for tau in least * 10.0 ** np.arange(-3, 3.5, 0.5):
        try:
            posterior = fit(pairs, kind, tau)
        except NotPositiveDefiniteError:
            refused.append(tau)
            continue
        passed.append(tau)
        assert difference_variance(posterior, tau) == pytest.approx(1, abs=2e-3)
        if kind == "full":
            continue
        # J Sigma J^T of an input that is such a direction; many points go another way than few.
        for points in (1, 2_000):
            variance = posterior.functional_variance(np.repeat(direction, points, axis=0))
            np.testing.assert_allclose(variance * tau / 2, 1, atol=2e-3)
    assert all(tau < least for tau in refused) and len(passed) >= 5
    # log|A| moves by the pairs' directions alone: half a logarithm each.
    first, second = fit(pairs, kind, 10 * least), fit(pairs, kind, 1000 * least)
    near, far = (p.factor.log_det() for p in (first, second))
    directions = PAIRS * first.num_params / (2 * PAIRS)
    if kind == "softmax":  # and those that a softmax does not see
        directions += PAIRS
    assert far - near == pytest.approx(directions * np.log(100), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_names_the_prior_what_would_do_and_the_share(pairs, kind):
    least = least_of(pairs, kind)
    tau = least / 50
    with pytest.raises(PriorTooSmallError, match="too small beside the curvature") as caught:
        fit(pairs, kind, tau)
    assert isinstance(caught.value, np.linalg.LinAlgError)
    assert caught.value.prior_precision == pytest.approx(tau)
    assert 0.3 < caught.value.share < 0.7
    for number in (f"{tau:.3g}", f"{caught.value.least_prior_precision:.3g}"):
        assert number in str(caught.value)
    # The pass over the data is not lost, and what would do does.
    enough = caught.value.least_prior_precision
    saved = caught.value.with_prior_precision(enough)
    assert difference_variance(saved, enough) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_wherever_a_prior_enters(pairs, kind):
    least = least_of(pairs, kind)
    posterior = fit(pairs, kind, 1e3 * least)
    before = posterior.log_marginal_likelihood()
    for refused in (posterior.with_prior_precision, posterior.log_marginal_likelihood):
        with pytest.raises(NotPositiveDefiniteError):
            refused(least / 100)
    assert posterior.log_marginal_likelihood() == before


def test_noise_that_makes_the_prior_too_small_is_refused_in_its_own_terms(pairs):
    least = least_of(pairs, "gaussian")
    posterior = fit(pairs, "gaussian", 10 * least)
    with pytest.raises(PriorTooSmallError) as caught:
        posterior.log_marginal_likelihood(noise_std=0.5 / 20)
    assert caught.value.prior_precision == pytest.approx(10 * least)
    assert caught.value.least_prior_precision > 50 * least


@pytest.mark.parametrize("kind", ["softmax", "gaussian"])
def test_a_search_stops_where_rounding_begins_and_says_so(pairs, kind):
    """A mean far from zero asks for a prior that rounding does not carry."""
    features, _ = pairs
    weights = np.repeat(1e-3 * np.random.default_rng(2).standard_normal((PAIRS, 3)), 2, axis=0)
    weights[::2] += 1e6
    weights[1::2] -= 1e6
    targets = np.random.default_rng(3).integers(0, 3, NUM_DATA)
    options = {}
    if kind == "gaussian":
        options["likelihood"] = Gaussian(0.5)
        targets = features @ weights
    posterior = fit_laplace(
        last_layer, {"w": weights}, [(features, targets)], progress=False, **options
    )
    best = posterior.optimize_prior_precision()
    assert posterior.tuning.at_bound and posterior.tuning.num_at_bound == 1
    assert best > 1e-8
    with pytest.raises(NotPositiveDefiniteError):
        posterior.with_prior_precision(best / 1e3)


@pytest.mark.parametrize("kind", ["softmax", "gaussian"])
def test_full_rank_under_a_weak_prior_and_features_of_very_different_scales_pass(kind):
    generator = np.random.default_rng(4)
    size = 30
    scales = 10.0 ** (np.arange(size) % 9 - 4.0)
    features = generator.standard_normal((500, size)) * scales
    weights = np.zeros((size, 2))
    if kind == "gaussian":
        options = {"likelihood": Gaussian(0.5)}
        targets = generator.standard_normal((500, 2))
    else:
        options, targets = {}, generator.integers(0, 2, 500)
    posterior = fit_laplace(
        last_layer,
        {"w": weights},
        [(features, targets)],
        prior_precision=1e-6,
        progress=False,
        **options,
    )
    ours = posterior.variance().reshape(size, 2)[:, 0]
    if kind == "gaussian":
        precision = features.T @ features / 0.25 + 1e-6 * np.eye(size)
        exact = np.diag(np.linalg.inv(precision / np.outer(scales, scales))) / scales**2
    else:  # probabilities of a half: Lambda is a quarter of (1, -1)^T (1, -1), and the prior beside
        precision = features.T @ features / 2 + 1e-6 * np.eye(size)
        inverse = np.diag(np.linalg.inv(precision / np.outer(scales, scales))) / scales**2
        exact = (inverse + 1e6) / 2
    np.testing.assert_allclose(ours, exact, rtol=1e-9)
