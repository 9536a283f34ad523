"""The prior variance behind the front: by validation data, or by the evidence."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen as nn
from test_prob_model import VAL, trained

from hoarfrost.data import DataLoader
from hoarfrost.errors import DataError, InvalidArgumentError, NonFiniteError, NotFittedError
from hoarfrost.prior import DiagonalGaussianPrior
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)


@pytest.fixture
def fitted():
    return trained()[0].posterior


def mean_log_prob(laplace, **options):
    return np.mean(laplace.log_prob(VAL, **options), dtype=np.float64)


def test_tuning_by_the_evidence_is_mackays(fitted):
    prob_model, status = trained(approximator=LaplacePosteriorApproximator())
    laplace, told = prob_model.posterior.laplace, status["fit_status"]["laplace"]
    assert told["tuned"] == "evidence"
    tau = laplace.prior_precision
    explained = laplace.num_params - tau * laplace.variance().sum()
    np.testing.assert_allclose(explained, tau * np.square(laplace.mean).sum(), rtol=1e-6)
    np.testing.assert_allclose(told["prior_log_variance"], -np.log(tau))
    assert told["tuning"]["evaluations"] <= 6
    assert told["tuning"]["residual"] <= 5e-7
    # The same through the method of Fortuna's name, which starts from the prior that was given.
    again = fitted.prior_log_variance_tuning(mode="marginal_lik", max_prior_log_var=9.0)
    assert again["tuned"] == "evidence"
    np.testing.assert_allclose(fitted.laplace.prior_precision, tau, rtol=1e-6)


def test_bounds_hold_and_are_reported(fitted):
    free = fitted.prior_log_variance_tuning(mode="marginal_lik", min_prior_log_var=-9.0)
    best = free["prior_log_variance"]
    assert not free["tuning"]["at_bound"]
    low, high = best + 0.5, best + 1.0
    for options in ({"mode": "marginal_lik"}, {"val_data_loader": VAL}):
        told = fitted.prior_log_variance_tuning(
            **options, min_prior_log_var=low, max_prior_log_var=high
        )
        assert low - 1e-9 <= told["prior_log_variance"] <= high + 1e-9
        assert told["tuning"]["bounds"] == (low, high)
        if "mode" in options:
            np.testing.assert_allclose(told["prior_log_variance"], low)
            assert told["tuning"]["at_bound"]


def test_validation_data_choose_by_the_posteriors_own_link(fitted):
    told = fitted.prior_log_variance_tuning(VAL)
    laplace = fitted.laplace
    best = mean_log_prob(laplace)
    np.testing.assert_allclose(told["tuning"]["objective"], best, rtol=1e-6)
    assert told["tuned"] == "validation" and told["tuning"]["bounds"] == (-3.0, 3.0)
    for log_variance in np.linspace(-3, 3, 13):
        other = laplace.with_prior_precision(float(np.exp(-log_variance)))
        assert mean_log_prob(other) <= best + 1e-4
    # It is this posterior from here on.
    np.testing.assert_allclose(-np.log(laplace.prior_precision), told["prior_log_variance"])


def test_every_argument_of_the_search_counts(fitted):
    few = fitted.prior_log_variance_tuning(VAL, grid_size=3)
    many = fitted.prior_log_variance_tuning(VAL, grid_size=40)
    assert many["tuning"]["evaluations"] > few["tuning"]["evaluations"] + 10
    drawn = [
        fitted.prior_log_variance_tuning(VAL, n_posterior_samples=n, link="mc", grid_size=3)
        for n in (3, 200)
    ]
    assert drawn[0]["tuning"]["objective"] != drawn[1]["tuning"]["objective"]
    assert drawn[1]["tuning"]["objective"] != few["tuning"]["objective"]
    np.testing.assert_allclose(
        drawn[1]["tuning"]["objective"], mean_log_prob(fitted.laplace, link="mc", n_samples=200)
    )


@pytest.mark.parametrize("mode", ["cv", "marginal_lik"])
def test_a_prior_for_each_parameter_keeps_its_proportions(mode):
    log_var = np.linspace(-1, 1, 43)
    posterior = trained(prior=DiagonalGaussianPrior(log_var))[0].posterior
    for _ in range(2):  # a shift is relative to the model's prior, however often it is tuned
        told = posterior.prior_log_variance_tuning(VAL if mode == "cv" else None, mode=mode)
        shift = told["tuning"]["prior_log_variance_shift"]
        assert -3 <= shift <= 3 and "prior_log_variance" not in told
        flat = [np.ravel(x) for x in jax.tree.leaves(posterior.laplace.prior_precision)]
        np.testing.assert_allclose(np.concatenate(flat), np.exp(-log_var[25:] - shift))


class Mean(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, name="head")(nn.tanh(nn.Dense(4, name="body")(x)))


@pytest.mark.parametrize("with_val", [False, True])
def test_a_regressor_is_tuned_too(with_val):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((40, 3)).astype(np.float32)
    y = np.sin(x[:, :1]) + 0.1 * generator.standard_normal((40, 1)).astype(np.float32)
    train, val = (
        DataLoader.from_array_data((x[part], y[part]), batch_size=16)
        for part in (slice(0, 30), slice(30, 40))
    )
    prob_model = ProbRegressor(Mean(), Mean())
    status = prob_model.train(
        train,
        val_data_loader=val if with_val else None,
        fit_config=FitConfig(monitor=FitMonitor(verbose=False)),
        map_fit_config=FitConfig(
            monitor=FitMonitor(verbose=False), optimizer=FitOptimizer(n_epochs=2)
        ),
    )
    told = status["fit_status"]["laplace"]
    assert told["tuned"] == ("validation" if with_val else "evidence")
    assert told["prior_log_variance"] != 0
    if with_val:
        got = np.mean(prob_model.posterior.laplace.log_prob(val), dtype=np.float64)
        np.testing.assert_allclose(told["tuning"]["objective"], got, rtol=1e-5)


def test_the_posterior_has_one_factor_while_it_is_tuned(fitted, monkeypatch):
    laplace = fitted.laplace
    variance = laplace.variance()
    fitted.prior_log_variance_tuning(VAL)
    assert laplace.store.held is None and fitted.laplace is not laplace
    np.testing.assert_allclose(laplace.variance(), variance)


@pytest.mark.parametrize("what", ["text", "NaN", "complex targets", "masks of some", "no pair"])
def test_validation_data_that_cannot_be_used_are_named(fitted, what):
    (x, y), *_ = list(VAL)
    x, y = np.asarray(x), np.asarray(y)
    spoiled = {
        "text": (np.full(x.shape, "a"), y),
        "NaN": (np.where(x > 0, np.nan, x), y),
        "complex targets": (x, y.astype(complex)),
        "masks of some": (x, (y, np.ones(len(y), bool))),
        "no pair": (x, [y, y]),
    }
    before = fitted.laplace
    with pytest.raises((DataError, InvalidArgumentError, NonFiniteError)) as info:
        fitted.prior_log_variance_tuning([(x, y), spoiled[what]])
    assert "val_data_loader" in str(info.value)
    assert "of data_loader" not in str(info.value)
    assert fitted.laplace is before and before.store.held is not None


def test_what_does_not_fit_together(fitted):
    def refused(match, *arguments, **options):
        with pytest.raises(InvalidArgumentError, match=match):
            fitted.prior_log_variance_tuning(*arguments, **options)

    refused("mode is 'grid'; give 'cv' or 'marginal_lik'", VAL, mode="grid")
    refused("mode='cv' chooses the prior variance on validation data: give val_data_loader")
    refused("leave val_data_loader out, or give mode='cv'", VAL, mode="marginal_lik")
    refused(r"min_prior_log_var is 1\.0 and max_prior_log_var is 1\.0", VAL, 10, "cv", 1.0, 1.0)
    refused("max_prior_log_var is 'wide'; give the logarithm", VAL, max_prior_log_var="wide")
    refused("grid_size is 1; give a whole number of at least 2", VAL, grid_size=1)
    refused("n_posterior_samples is 0; give a whole number", VAL, n_posterior_samples=0)
    refused("link is 'mc', but mode='marginal_lik' predicts", mode="marginal_lik", link="mc")
    refused("val_data_loader is a int", 3)
    assert fitted.laplace.prior_precision == 1.0
    blank = ProbClassifier(Mean()).posterior
    with pytest.raises(NotFittedError, match="not fitted yet"):
        blank.prior_log_variance_tuning(VAL)
