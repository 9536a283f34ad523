"""Precision, covariance, draws and evidence of every row against dense algebra."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from dense import assert_close, evidence
from rows import POINTS, PRIOR_MEAN, PRIORS, Row, X, every_row, every_row_and_prior, fitted

from hoarfrost.errors import InvalidArgumentError

pytestmark = pytest.mark.usefixtures("x64")


def condition(matrix: np.ndarray) -> float:
    """What a solve with a matrix makes of rounding."""
    return float(np.linalg.cond(matrix))


@every_row_and_prior
def test_precision_and_its_inverse(row: Row, prior: str) -> None:
    posterior, expected = fitted(row, prior), row.precision(prior)
    size = len(expected)
    assert (posterior.num_params, posterior.num_data) == (size, len(X))
    assert_close(posterior.mean, row.dense.mean, 1)
    assert_close(posterior.precision(), expected, size)
    inverse = np.linalg.inv(expected)
    assert_close(posterior.covariance(), inverse, size, condition(expected))
    assert_close(posterior.variance(), np.diag(inverse), size, condition(expected))


@every_row
def test_whitened_draws_are_white(row: Row) -> None:
    prior = row.priors[-1]
    count, expected = 4000, row.precision(prior)
    draws = fitted(row, prior).sample(seed=1, n_samples=count)
    leaves = [np.asarray(leaf).reshape(count, -1) for leaf in jax.tree.leaves(draws)]
    white = (np.concatenate(leaves, axis=1) - row.dense.mean) @ np.linalg.cholesky(expected)
    # Standard errors: sqrt(2 / n) of a variance, less of a covariance; sqrt(1 / n) of a mean.
    bound = 5 * np.sqrt(2 / count)
    np.testing.assert_allclose(np.cov(white.T), np.eye(len(expected)), rtol=0, atol=bound)
    np.testing.assert_allclose(white.mean(0), 0, atol=5 / np.sqrt(count))


@every_row
def test_covariance_of_the_outputs(row: Row) -> None:
    posterior, expected = fitted(row, "by leaf"), row.precision("by leaf")
    jacobian = row.dense.jacobian(POINTS)
    joint = np.einsum("ncp,pq,mdq->ncmd", jacobian, np.linalg.inv(expected), jacobian)
    each = np.einsum("ncnd->ncd", joint)
    rounding = len(expected), condition(expected)
    assert_close(posterior.functional_covariance(POINTS, joint=True), joint, *rounding)
    assert_close(posterior.functional_covariance(POINTS), each, *rounding)
    variance = np.einsum("ncc->nc", each)
    assert_close(posterior.functional_variance(POINTS), variance, *rounding)


@every_row_and_prior
def test_evidence(row: Row, prior: str) -> None:
    dense, definition = row.dense, row.definition
    log_likelihood = definition.log_prob(dense.outputs(X), definition.targets).sum()
    terms = row.prior(prior)[1], dense.mean - PRIOR_MEAN, row.precision(prior)
    got = fitted(row, prior).log_marginal_likelihood()
    assert_close(got, evidence(log_likelihood, *terms), len(dense.mean))


@every_row
def test_a_new_prior_equals_a_refit(row: Row) -> None:
    old = fitted(row, "one")
    for prior in row.priors[1:]:
        given, _ = row.prior(prior)
        new, refitted = old.with_prior_precision(given), fitted(row, prior)
        size, bound = new.num_params, condition(row.precision(prior))
        assert_close(new.precision(), refitted.precision(), size)
        assert_close(new.covariance(), refitted.covariance(), size, bound)
        assert_close(
            new.functional_covariance(POINTS), refitted.functional_covariance(POINTS), size, bound
        )
        again = refitted.log_marginal_likelihood()
        assert_close(new.log_marginal_likelihood(), again, size)
        assert_close(old.log_marginal_likelihood(given), again, size)
        for one, other in zip(
            jax.tree.leaves(new.sample(3, 2)), jax.tree.leaves(refitted.sample(3, 2)), strict=True
        ):
            assert_close(one, other, size, bound)


@every_row
def test_a_prior_that_a_structure_does_not_take_is_an_error(row: Row) -> None:
    for prior in set(PRIORS) - set(row.priors):
        with pytest.raises(InvalidArgumentError, match="one number a leaf"):
            fitted(row).with_prior_precision(row.prior(prior)[0])


@every_row
def test_two_halves_of_the_data_merged_equal_the_whole(row: Row) -> None:
    first, second = row.fit(points=slice(4)).curvature, row.fit(points=slice(4, None)).curvature
    priors = {name: row.prior(name)[1] for name in row.priors}
    alone = second.factor(priors["one"]).precision()
    first.merge(second)
    for name, prior in priors.items():
        whole, merged = fitted(row, name), first.factor(prior)
        assert_close(merged.precision(), whole.precision(), len(prior))
        rounding = len(prior), condition(row.precision(name))
        assert_close(merged.variance(), whole.variance(), *rounding)
    np.testing.assert_array_equal(second.factor(priors["one"]).precision(), alone)
