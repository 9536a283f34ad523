"""The curvature of a general subset that was factored in place, back from its factor."""

from __future__ import annotations

import numpy as np
import pytest

from hoarfrost import fit_laplace, memory
from hoarfrost.errors import InvalidArgumentError, MemoryLimitError, PriorTooSmallError
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
    from hoarfrost.laplace.evidence import tuning

    def broken_off(*arguments):
        raise KeyboardInterrupt

    kept, dropped = fit(True), fit(False)
    monkeypatch.setattr(tuning, "search_one", broken_off)
    with pytest.raises(KeyboardInterrupt):
        dropped.optimize_prior_precision()
    other = dropped.with_prior_precision(3.0)
    same(other, kept.with_prior_precision(3.0))
    assert other.curvature is None
    # The factor comes back when it is asked for, and what it came from goes.
    same(dropped, kept)
    assert dropped.curvature is None


def test_a_search_whose_warning_is_an_error_loses_nothing(fit, monkeypatch):
    from hoarfrost.laplace.evidence import concave_search

    kept, dropped = fit(True), fit(False)
    monkeypatch.setattr(concave_search, "MAX_EVALUATIONS", 2)
    with pytest.raises(UserWarning, match="stopped after 2 evaluations"):
        dropped.optimize_prior_precision()
    same(dropped, kept)


def test_a_search_on_validation_data_works_without_the_curvature(fit, small):
    from hoarfrost.data import DataLoader
    from hoarfrost.prob_model.posterior.laplace.prior_tuning import (
        ReferencePrior,
        tune_on_validation_data,
    )

    val = DataLoader.from_array_data((small.x, small.y))
    kept, dropped = fit(True), fit(False)
    arguments = (ReferencePrior(1.0), val, (-3.0, 3.0))
    best, told = tune_on_validation_data(dropped, *arguments)
    expected, _ = tune_on_validation_data(kept, *arguments)
    assert best.prior_precision == pytest.approx(expected.prior_precision, rel=1e-6)
    assert best.curvature is None and told["tuned"] == "validation"
    same(dropped, kept)


def test_a_prior_below_the_rounding_of_the_last_one_is_refused(fit):
    dropped = fit(False, prior_precision=1e8)
    size = dropped.num_params
    with pytest.raises(PriorTooSmallError, match="too small beside the curvature") as caught:
        dropped.with_prior_precision(1e-8)
    # Forty times what is not known of the largest element, a quarter of P eps at the least.
    assert 10 * size * EPS * 1e8 <= caught.value.least_prior_precision < 100 * size * EPS * 1e8
    dropped.with_prior_precision(caught.value.least_prior_precision)
    near = dropped.with_prior_precision(1.0)
    exact = fit(True).with_prior_precision(1.0)
    np.testing.assert_allclose(near.precision(), exact.precision(), rtol=0, atol=size * EPS * 1e8)


def test_the_budget_of_the_fit_holds(fit):
    from hoarfrost import _core

    dropped = fit(False)
    half, one, panel = _core.full_bytes(dropped.num_params)
    # Of so few parameters a panel is larger than both, so that one budget cannot show the rest.
    tight = fit(False, memory_budget=half + panel)
    tight.store.budget = half + one - 1
    with pytest.raises(MemoryLimitError, match="comes back from the factor"):
        tight.with_prior_precision(2.0)
    same(
        fit(False, memory_budget=half + panel).with_prior_precision(2.0),
        dropped.with_prior_precision(2.0),
    )


def test_what_does_not_fit_is_refused_before_the_work(fit, monkeypatch):
    dropped = fit(False)
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    with pytest.raises(MemoryLimitError, match="comes back from the factor beside it, needs") as e:
        dropped.with_prior_precision(2.0)
    assert e.value.bytes_available == 100
    assert np.isfinite(dropped.log_marginal_likelihood())


def test_a_last_layer_does_not_come_back(fit):
    dropped = fit(False, trainable=lambda path, value: "last" in path)
    with pytest.raises(InvalidArgumentError, match="the curvature was not kept"):
        dropped.with_prior_precision(2.0)
