"""The curvature of a general subset that was factored in place, back from its factor."""

from __future__ import annotations

import numpy as np
import pytest

from hoarfrost import fit_laplace
from hoarfrost.errors import InvalidArgumentError, MemoryLimitError
from hoarfrost.laplace import plan
from hoarfrost.likelihood import Gaussian

EPS = np.finfo(np.float64).eps


@pytest.fixture
def fit(small):
    """A fit over all parameters of the small network, whose curvature is kept or not."""

    def call(keep, **options):
        options = {"prior_precision": 0.8, "progress": False, **options}
        return fit_laplace(small.apply, small.params, small.loader, keep_curvature=keep, **options)

    return call


def same(posterior, other):
    """Whether two posteriors agree to the rounding of a factor and its product."""
    precision = other.precision()
    bound = 32 * len(precision) * EPS * np.abs(precision).max()
    np.testing.assert_allclose(posterior.precision(), precision, rtol=0, atol=bound)
    condition = np.linalg.cond(precision)
    np.testing.assert_allclose(posterior.variance(), other.variance(), rtol=bound * condition)


@pytest.mark.parametrize("prior", [1e-3, 0.8, 1e3])
def test_another_prior_needs_no_other_pass(fit, prior):
    kept, dropped = fit(True), fit(False)
    assert dropped.curvature is None
    same(dropped.with_prior_precision(prior), kept.with_prior_precision(prior))
    np.testing.assert_allclose(
        dropped.log_marginal_likelihood(prior), kept.log_marginal_likelihood(prior), rtol=1e-11
    )
    # What was there is as it was.
    np.testing.assert_array_equal(dropped.covariance(), kept.covariance())
    assert dropped.curvature is None


def test_another_noise_needs_no_other_pass(small):
    targets = np.stack([small.x[:, 0]] * 4, axis=1)

    def fit(keep):
        return fit_laplace(
            small.apply,
            small.params,
            [(small.x, targets)],
            likelihood=Gaussian(0.7),
            keep_curvature=keep,
            progress=False,
        )

    kept, dropped = fit(True), fit(False)
    for options in ({"noise_std": 0.3}, {"noise_std": 2.0, "prior_precision": 5.0}):
        expected = kept.log_marginal_likelihood(**options)
        np.testing.assert_allclose(dropped.log_marginal_likelihood(**options), expected, rtol=1e-11)
    # A new posterior's factor is scaled by its noise; its curvature still is that of the fit.
    assert kept.optimize_hyperparameters() == pytest.approx(dropped.optimize_hyperparameters())
    assert dropped.curvature is None
    same(dropped.with_prior_precision(3.0), kept.with_prior_precision(3.0))


def test_the_evidence_is_maximised_as_with_the_curvature(fit):
    kept, dropped = fit(True), fit(False)
    expected = kept.optimize_prior_precision()
    assert dropped.optimize_prior_precision() == pytest.approx(expected, rel=1e-9)
    assert dropped.curvature is None
    same(dropped, kept)


def test_a_search_that_is_broken_off_loses_nothing(fit, monkeypatch):
    from hoarfrost.laplace import tuning

    def broken_off(*arguments):
        raise KeyboardInterrupt

    kept, dropped = fit(True), fit(False)
    monkeypatch.setattr(tuning, "search_one", broken_off)
    with pytest.raises(KeyboardInterrupt):
        dropped.optimize_prior_precision()
    same(dropped, kept)


def test_what_does_not_fit_is_refused_before_the_work(fit, monkeypatch):
    dropped = fit(False)
    monkeypatch.setattr(plan, "available_bytes", lambda: 100)
    with pytest.raises(MemoryLimitError, match="comes back from the factor beside it, needs") as e:
        dropped.with_prior_precision(2.0)
    assert e.value.bytes_available == 100
    assert np.isfinite(dropped.log_marginal_likelihood())


def test_a_last_layer_does_not_come_back(fit):
    dropped = fit(False, trainable=lambda path, value: "last" in path)
    with pytest.raises(InvalidArgumentError, match="the curvature was not kept"):
        dropped.with_prior_precision(2.0)
