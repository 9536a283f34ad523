"""Gaussian priors: densities, precisions, samples, errors."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import hoarfrost
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.prior import DiagonalGaussianPrior, IsotropicGaussianPrior, check_prior

PARAMS = {"b": jnp.array([0.5, -1.0]), "a": jnp.array([[1.0, 2.0, 3.0]])}
LOG_VAR = np.array([-1.0, 0.0, 1.0, 2.0, -2.0])


MEAN = np.array([1.0, -1.0, 0.5, 2.0, 0.0])


def density(flat, log_var, mean=0.0):
    flat = flat - mean
    return np.sum(-0.5 * (np.exp(-log_var) * flat**2 + log_var + np.log(2 * np.pi)))


def test_log_density_has_its_constants():
    flat = np.asarray(ravel_pytree(PARAMS)[0], np.float64)
    got = IsotropicGaussianPrior(0.3).log_joint_prob(PARAMS)
    np.testing.assert_allclose(got, density(flat, np.full(5, 0.3)), rtol=1e-6)
    got = DiagonalGaussianPrior(LOG_VAR).log_joint_prob(PARAMS)
    np.testing.assert_allclose(got, density(flat, LOG_VAR), rtol=1e-6)


def test_a_mean_in_each_of_its_forms():
    flat = np.asarray(ravel_pytree(PARAMS)[0], np.float64)
    tree = {"a": MEAN[:3].reshape(1, 3), "b": jnp.asarray(MEAN[3:])}
    for prior, log_var in (
        (IsotropicGaussianPrior, np.full(5, 0.3)),
        (DiagonalGaussianPrior, LOG_VAR),
    ):
        given = log_var if prior is DiagonalGaussianPrior else 0.3
        for mean in (MEAN, MEAN.tolist(), tree):
            made = prior(given, mean=mean)
            np.testing.assert_allclose(
                jax.jit(type(made).log_joint_prob)(made, PARAMS),
                density(flat, log_var, MEAN),
                rtol=1e-6,
            )
            np.testing.assert_array_equal(ravel_pytree(made.mean_tree(PARAMS))[0], MEAN)
        made = prior(given, mean=0.5)
        np.testing.assert_allclose(
            made.log_joint_prob(PARAMS), density(flat, log_var, 0.5), rtol=1e-6
        )
        assert made.mean_tree(PARAMS) == {"a": 0.5, "b": 0.5}
        centred, moved = prior(given).sample(PARAMS), prior(given, mean=MEAN).sample(PARAMS)
        difference = ravel_pytree(moved)[0] - ravel_pytree(centred)[0]
        np.testing.assert_allclose(difference, MEAN, atol=1e-6)


@pytest.mark.parametrize("mean", [np.nan, "zero", [], [0.0, np.inf], {"a": None}, True])
def test_a_mean_that_is_no_number(mean):
    with pytest.raises(InvalidArgumentError, match=r"mean is .*; give a finite number"):
        IsotropicGaussianPrior(mean=mean)


def test_a_mean_of_another_shape():
    with pytest.raises(ShapeError, match="mean of the prior has 4 entries but the full"):
        IsotropicGaussianPrior(mean=MEAN[:4]).log_joint_prob(PARAMS)
    with pytest.raises(ShapeError, match=r"leaves \{'a': \(1, 3\)\}, but the full"):
        IsotropicGaussianPrior(mean={"a": np.zeros((1, 3))}).mean_tree(PARAMS)


def test_density_is_the_gradient_of_the_precision():
    prior = DiagonalGaussianPrior(LOG_VAR)
    gradient = jax.grad(prior.log_joint_prob)(PARAMS)
    expected = jax.tree.map(lambda t, w: -t * w, prior.precision_tree(PARAMS), PARAMS)
    jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-6), gradient, expected)


def test_precision_trees():
    # Not np.exp, whose last bit depends on its version.
    expected = math.exp(-2)
    assert IsotropicGaussianPrior(2.0).precision_tree(PARAMS) == {"a": expected, "b": expected}
    tree = DiagonalGaussianPrior(LOG_VAR).precision_tree(PARAMS)
    np.testing.assert_allclose(tree["a"], np.exp(-LOG_VAR[:3])[None])
    np.testing.assert_allclose(tree["b"], np.exp(-LOG_VAR[3:]))


def test_half_precision_parameters_do_not_overflow():
    params = {"w": jnp.full(4, 300.0, jnp.float16)}
    got = IsotropicGaussianPrior().log_joint_prob(params)
    np.testing.assert_allclose(got, density(np.full(4, 300.0), np.zeros(4)), rtol=1e-6)


@pytest.mark.parametrize(
    ("prior", "log_var"),
    [(IsotropicGaussianPrior(1.0), 1.0), (DiagonalGaussianPrior(np.full(20000, -1.0)), -1.0)],
)
def test_samples_have_the_prior_variance(prior, log_var):
    like = {"x": jnp.zeros((100, 100)), "y": jnp.zeros(10000)}
    drawn = prior.sample(like, jax.random.PRNGKey(3))
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, like)
    variance = np.var(ravel_pytree(drawn)[0])
    # Relative standard error of a variance of n draws: sqrt(2 / n) = 0.01.
    np.testing.assert_allclose(variance, np.exp(log_var), rtol=0.05)
    other = prior.sample(like, jax.random.PRNGKey(4))
    assert np.any(other["x"] != drawn["x"])
    np.testing.assert_array_equal(prior.sample(like)["x"], prior.sample(like, None)["x"])


def test_a_new_log_variance_is_no_new_program():
    traces = []

    @jax.jit
    def program(prior, params):
        traces.append(1)
        return prior.log_joint_prob(params)

    values = [program(IsotropicGaussianPrior(v), PARAMS) for v in (0.0, 1.0)]
    assert len(traces) == 1 and values[0] != values[1]
    program(DiagonalGaussianPrior(LOG_VAR), PARAMS)
    program(DiagonalGaussianPrior(2 * LOG_VAR), PARAMS)
    assert len(traces) == 2


@pytest.mark.parametrize("log_var", [np.nan, np.inf, 1e4, [0.0, 1.0], "0"])
def test_isotropic_log_variance_that_is_no_number(log_var):
    with pytest.raises(InvalidArgumentError, match=r"log_var is .*; give the logarithm"):
        IsotropicGaussianPrior(log_var)


@pytest.mark.parametrize("log_var", [0.0, [], [0.0, np.nan], [[0.0]]])
def test_diagonal_log_variance_that_is_no_vector(log_var):
    with pytest.raises(
        InvalidArgumentError, match=r"log_var has shape .*; give a vector of finite"
    ):
        DiagonalGaussianPrior(log_var)


def test_diagonal_prior_of_another_size():
    prior = DiagonalGaussianPrior(LOG_VAR[:4])
    for call in (prior.log_joint_prob, prior.precision_tree, prior.sample):
        with pytest.raises(ShapeError, match="has 4 entries but the full parameter tree holds 5"):
            call(PARAMS)


def test_what_is_no_prior():
    check_prior(IsotropicGaussianPrior())
    with pytest.raises(InvalidArgumentError, match=r"prior is 1\.0; give IsotropicGaussianPrior"):
        check_prior(1.0)


@pytest.fixture
def regression():
    """Linear regression at its MAP under a prior with a mean: everything has a closed form."""
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(15, 3)), generator.normal(size=(15, 1))
    centre, tau, std = np.array([1.0, -2.0, 0.5]), 3.0, 0.6
    precision = x.T @ x / std**2 + tau * np.eye(3)
    w = np.linalg.solve(precision, x.T @ y[:, 0] / std**2 + tau * centre)
    covariance = std**2 * np.eye(15) + x @ x.T / tau
    residual = y[:, 0] - x @ centre
    evidence = -0.5 * (
        residual @ np.linalg.solve(covariance, residual)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    return x, y, centre, tau, std, w[:, None], evidence


@pytest.mark.parametrize("head", [True, False], ids=["head", "general"])
def test_evidence_of_a_prior_with_a_mean(head, regression, x64):
    x, y, centre, tau, std, w, evidence = regression

    def apply(params, inputs):
        flat = params["w"] if head else params["w"].reshape(-1, 1)
        return inputs @ flat

    def fit(**options):
        params = {"w": jnp.asarray(w if head else w[:, 0])}
        noise = hoarfrost.likelihood.Gaussian(std)
        return hoarfrost.fit_laplace(
            apply, params, [(x, y)], likelihood=noise, progress=False, **options
        )

    tree = {"w": centre.reshape(-1, 1) if head else centre}
    posterior = fit(prior_precision=tau, prior_mean=tree)
    np.testing.assert_array_equal(posterior.prior_mean, centre)
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), evidence, rtol=1e-9)
    assert abs(fit(prior_precision=tau).log_marginal_likelihood() - evidence) > 1
    # MacKay's identity holds about the prior's mean.
    best = posterior.optimize_prior_precision()
    effective = 3 - best * np.trace(posterior.covariance())
    np.testing.assert_allclose(best * np.sum((w[:, 0] - centre) ** 2), effective, rtol=1e-6)
    for wrong, message in (
        ({"v": 0.0}, "prior_mean must be a number or a tree with the trainable leaves w"),
        (np.inf, "prior_mean is inf; every prior mean must be finite"),
        ("0", "prior_mean is '0'; give a number"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            fit(prior_mean=wrong)
    with pytest.raises(ShapeError, match="prior_mean at 'w' has shape"):
        fit(prior_mean={"w": np.zeros(2)})
