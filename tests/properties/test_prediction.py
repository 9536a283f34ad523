"""Predictions of every row by each link, against what the link is defined to be."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from dense import Array, assert_close, expectation, outputs
from rows import POINTS, ROWS, Row, X, every_row, fitted, rows_with
from scipy import special, stats

pytestmark = pytest.mark.usefixtures("x64")

COUNT = 4000


def gaussian_outputs(row: Row) -> tuple[Array, Array, float]:
    """Mean and covariance of the outputs at the points, and the precision's condition number."""
    precision, jacobian = row.precision(), row.dense.jacobian(POINTS)
    covariance = np.einsum("ncp,pq,ndq->ncd", jacobian, np.linalg.inv(precision), jacobian)
    return row.dense.outputs(POINTS), covariance, float(np.linalg.cond(precision))


def sampled_outputs(row: Row, x: Array) -> Array:
    """The network's own outputs under the draws of `sample`, ``(S, N, C)``."""
    drawn = fitted(row).sample(seed=5, n_samples=7)["params"]
    params = {
        layer: {leaf: value[None] for leaf, value in leaves.items()}
        for layer, leaves in row.dense.params.items()
    }
    for layer, leaves in drawn.items():
        params[layer] |= {leaf: np.asarray(value) for leaf, value in leaves.items()}
    return outputs(params, x)


def probit(row: Row, mean: Array, covariance: Array) -> Array:
    """Probabilities of logits that are shrunk by their own variance (MacKay, 1992)."""
    return row.definition.mean(mean / np.sqrt(1 + np.pi / 8 * np.einsum("ncc->nc", covariance)))


def bridge(mean: Array, covariance: Array) -> Array:
    """The mean of the Dirichlet that a Gaussian over logits maps to, given a sum of zero."""
    count, one = mean.shape[1], np.ones(mean.shape[1])
    found = []
    for f, v in zip(mean, covariance, strict=True):
        total = one @ v @ one
        centred = f - v @ one * f.sum() / total
        spread = np.diag(v - np.outer(v @ one, v @ one) / total)
        alpha = 1 - 2 / count + np.exp(centred) / count**2 * np.exp(-centred).sum()
        found.append(alpha / spread / np.sum(alpha / spread))
    return np.stack(found)


@rows_with("probit")
def test_probit(row: Row) -> None:
    mean, covariance, condition = gaussian_outputs(row)
    expected, size = probit(row, mean, covariance), row.dense.mean.size
    assert_close(fitted(row).predict(POINTS, link="probit"), expected, size, condition)
    log_p = fitted(row).predict(POINTS, link="probit", log=True)
    assert_close(log_p, np.log(expected), size, condition)


@rows_with("bridge")
def test_bridge(row: Row) -> None:
    mean, covariance, condition = gaussian_outputs(row)
    got = fitted(row).predict(POINTS, link="bridge")
    assert_close(got, bridge(mean, covariance), row.dense.mean.size, condition)


@rows_with("mc")
def test_mc_is_the_mean_over_gaussian_outputs(row: Row) -> None:
    mean, covariance, _ = gaussian_outputs(row)
    expected = expectation(row.definition.mean, mean, covariance)
    square = expectation(lambda f: row.definition.mean(f) ** 2, mean, covariance)
    spread = np.sqrt(np.maximum(square - expected**2, 0))
    got = fitted(row).predict(POINTS, link="mc", n_samples=COUNT, seed=2)
    assert np.all(np.abs(got - expected) < 5 * spread / np.sqrt(COUNT) + 1e-3)


@rows_with("mc")
def test_mc_spreads_as_the_posterior_does(row: Row) -> None:
    """The second moment too: draws of twice the width have the same mean where it is linear."""
    mean, covariance, _ = gaussian_outputs(row)
    definition, targets = row.definition, row.definition.targets[: len(POINTS)]
    density = expectation(lambda f: np.exp(definition.log_prob(f, targets)), mean, covariance)
    square = expectation(lambda f: np.exp(2 * definition.log_prob(f, targets)), mean, covariance)
    relative = np.sqrt(np.maximum(square / density**2 - 1, 0) / COUNT)
    got = fitted(row).log_prob([(POINTS, targets)], link="mc", n_samples=COUNT, seed=2)
    assert np.all(np.abs(got - np.log(density)) < 5 * relative + 1e-3)


@rows_with(None)
def test_closed_form_is_the_mean_and_variance_over_gaussian_outputs(row: Row) -> None:
    definition = row.definition
    mean, covariance, condition = gaussian_outputs(row)
    expected = expectation(definition.mean, mean, covariance)
    second = expectation(lambda f: definition.mean(f) ** 2, mean, covariance)
    noise = expectation(definition.variance, mean, covariance)
    prediction, size = fitted(row).predict_regression(POINTS), row.dense.mean.size
    got = prediction.mean, prediction.epistemic_variance, prediction.noise_variance
    for one, other in zip(got, (expected, second - expected**2, noise), strict=True):
        assert_close(one, other, size, condition * np.max(second))
    for one, other in zip(
        fitted(row).predict(POINTS), (expected, second - expected**2 + noise), strict=True
    ):
        assert_close(one, other, size, condition * np.max(second))


@every_row
def test_nn_is_the_mixture_over_weight_samples(row: Row) -> None:
    definition, size = row.definition, row.dense.mean.size
    condition = float(np.linalg.cond(row.precision()))
    drawn = sampled_outputs(row, POINTS)
    means = definition.mean(drawn)
    expected: Any = means.mean(0)
    got = fitted(row).predict(POINTS, link="nn", n_samples=7, seed=5)
    if definition.variance is not None:
        expected = expected, means.var(0) + definition.variance(drawn).mean(0)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert_close(one, other, size, condition)
    log_p = definition.log_prob(sampled_outputs(row, X), definition.targets)
    mixture = special.logsumexp(log_p, axis=0) - np.log(len(log_p))
    scored = fitted(row).log_prob([(X, definition.targets)], link="nn", n_samples=7, seed=5)
    assert_close(scored, mixture, size, condition)


@rows_with("probit")
def test_density_of_labels(row: Row) -> None:
    targets = row.definition.targets[: len(POINTS)]
    mean, covariance, condition = gaussian_outputs(row)
    p = probit(row, mean, covariance)
    if targets.ndim == 1:
        expected = np.log(p[np.arange(len(p)), targets])
    else:
        expected = np.log(np.where(targets == 1, p, 1 - p)).sum(1)
    got = fitted(row).log_prob([(POINTS, targets)])
    assert_close(got, expected, row.dense.mean.size, condition)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name.startswith("gaussian")], ids=str)
def test_density_under_gaussian_noise(row: Row) -> None:
    targets = row.definition.targets[: len(POINTS)]
    mean, covariance, condition = gaussian_outputs(row)
    total = covariance + np.linalg.inv(row.definition.curvature(mean))
    expected = [
        stats.multivariate_normal(f, v).logpdf(y)
        for f, v, y in zip(mean, total, targets, strict=True)
    ]
    got = fitted(row).log_prob([(POINTS, targets)])
    assert_close(got, expected, row.dense.mean.size, condition)
