"""The posterior over a last layer, against laplace-torch, `jax.hessian` and dense algebra."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.laplace import fit_laplace
from hoarfrost.likelihood import Gaussian

EPS32 = float(np.finfo(np.float32).eps)


def last_only(path, _):
    return "last" in path or "head" in path


def as_dtype(tree, dtype):
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)


def fit(digits, dtype=np.float64, batch_size=300, **options):
    loader = DataLoader.from_array_data((digits.x.astype(dtype), digits.y), batch_size=batch_size)
    variables = as_dtype(digits.variables, dtype)
    return fit_laplace(
        digits.model, variables, loader, trainable=last_only, progress=False, **options
    )


def ravelled_head(h):
    """A (17, 10, 17, 10) matrix of the reference, in the order bias (10,), kernel (16, 10)."""
    order = np.r_[160:170, 0:160]
    return h.reshape(170, 170)[np.ix_(order, order)]


def test_precision_equals_laplace_torch_in_float64(digits, x64):
    posterior = fit(digits, prior_precision=1.0)
    expected = ravelled_head(digits.head_H)
    got = posterior.precision() - np.eye(170)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    assert posterior.num_params == 170
    assert posterior.num_data == 1000
    np.testing.assert_allclose(posterior.log_likelihood, digits.loglik, rtol=1e-12)


def test_precision_equals_laplace_torch_in_float32(digits):
    posterior = fit(digits, np.float32, prior_precision=1.0)
    expected = ravelled_head(digits.head_H)
    # One rounding of a logit moves a probability by |f| eps; sums of 64 and 16 terms before it.
    np.testing.assert_allclose(
        posterior.precision() - np.eye(170), expected, atol=100 * EPS32 * np.abs(expected).max()
    )
    np.testing.assert_allclose(posterior.log_likelihood, digits.loglik, rtol=100 * EPS32)


def test_evidence_functional_covariance_and_probit_equal_laplace_torch(digits, x64):
    posterior = fit(digits)
    for index, tau in enumerate(digits.taus):
        tuned = posterior.with_prior_precision(tau)
        f_var, probit = digits.head_f_var[index], digits.head_probit[index]
        np.testing.assert_allclose(
            tuned.log_marginal_likelihood(), digits.head_logev[index], rtol=1e-10
        )
        np.testing.assert_allclose(
            posterior.log_marginal_likelihood(tau), digits.head_logev[index], rtol=1e-10
        )
        got = tuned.functional_covariance(digits.x_test)
        np.testing.assert_allclose(got, f_var, atol=1e-10 * f_var.max())
        np.testing.assert_allclose(
            tuned.functional_variance(digits.x_test),
            np.einsum("bcc->bc", f_var),
            rtol=1e-9,
        )
        np.testing.assert_allclose(tuned.predict(digits.x_test), probit, rtol=1e-9, atol=1e-12)


def test_probit_in_float32(digits):
    posterior = fit(digits, np.float32, prior_precision=1.0)
    got = posterior.predict(digits.x_test.astype(np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, digits.head_probit[1], atol=200 * EPS32)


def test_diagonal_is_the_diagonal_of_the_full_precision(digits, x64):
    full = fit(digits, prior_precision=2.0)
    diagonal = fit(digits, prior_precision=2.0, hessian_structure="diag")
    expected = np.diag(np.diag(full.precision()))
    np.testing.assert_allclose(diagonal.precision(), expected, rtol=1e-11)
    np.testing.assert_allclose(diagonal.variance(), 1 / np.diag(expected), rtol=1e-11)
    # Its functional covariance by the Jacobian of a Dense layer, written out.
    hidden = digits.variables["params"]["hidden"]
    a = np.maximum(digits.x_test @ hidden["kernel"] + hidden["bias"], 0)
    variance = diagonal.variance()
    by_hand = variance[:10] + np.square(a) @ variance[10:].reshape(16, 10)
    np.testing.assert_allclose(diagonal.functional_variance(digits.x_test), by_hand, rtol=1e-11)
    covariance = diagonal.functional_covariance(digits.x_test)
    np.testing.assert_allclose(covariance, np.eye(10) * by_hand[:, :, None], rtol=1e-11)


@pytest.mark.parametrize(
    "trainable",
    [
        last_only,
        lambda path, _: path == ("last", "w"),
        lambda path, _: path == ("last", "b"),
    ],
    ids=["kernel and bias", "kernel", "bias"],
)
def test_precision_is_the_hessian_of_the_last_layers_log_joint(small, x64, trainable):
    params = as_dtype(small.params, np.float64)
    x = small.x.astype(np.float64)
    posterior = fit_laplace(
        small.apply,
        params,
        [(x, small.y)],
        trainable=trainable,
        prior_precision=0.3,
        progress=False,
    )
    partition = posterior.linearised.subset.partition
    selected, frozen = partition.split(params)
    flat, unravel = ravel_pytree(selected)

    def negative_log_joint(vector):
        logits = small.apply(partition.merge(unravel(vector), frozen), x)
        chosen = jax.nn.log_softmax(logits)[jnp.arange(len(x)), small.y]
        return -chosen.sum() + 0.15 * vector @ vector

    expected = np.asarray(jax.hessian(negative_log_joint)(flat))
    np.testing.assert_allclose(posterior.precision(), expected, atol=1e-12)
    np.testing.assert_allclose(posterior.covariance(), np.linalg.inv(expected), atol=1e-10)
    np.testing.assert_allclose(posterior.variance(), np.diag(np.linalg.inv(expected)), atol=1e-10)
    np.testing.assert_array_equal(posterior.mean, flat)


def test_evidence_by_a_second_route(small, x64):
    """log|H + T| - log|T| = log|I + R J T^-1 J^T R^T|, of N C rows instead of P."""
    params = as_dtype(small.params, np.float64)
    x = small.x[:3].astype(np.float64)
    tau = 0.7
    posterior = fit_laplace(
        small.apply,
        params,
        [(x, small.y[:3])],
        trainable=last_only,
        prior_precision=tau,
        progress=False,
    )
    partition = posterior.linearised.subset.partition
    selected, frozen = partition.split(params)
    flat, unravel = ravel_pytree(selected)
    jacobian = np.asarray(
        jax.jacobian(lambda v: small.apply(partition.merge(unravel(v), frozen), x))(flat)
    )
    p = np.asarray(jax.nn.softmax(small.apply(params, x)))
    root = np.eye(4) * np.sqrt(p)[:, :, None] - p[:, :, None] * np.sqrt(p)[:, None, :]
    rows = np.einsum("ncd,ncp->ndp", root, jacobian).reshape(12, -1)
    log_det = np.linalg.slogdet(np.eye(12) + rows @ rows.T / tau)[1]
    log_likelihood = np.log(p[np.arange(3), small.y[:3]]).sum()
    expected = log_likelihood - tau / 2 * flat @ flat - log_det / 2
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), float(expected), rtol=1e-12)


@pytest.mark.parametrize(
    ("structure", "form"),
    [
        ("full", "leaves"),
        ("full", "arrays"),
        ("kron", "leaves"),
        ("diag", "leaves"),
        ("diag", "arrays"),
    ],
)
def test_a_tree_of_prior_precisions(small, structure, form):
    trees = {
        "leaves": {"last": {"b": 0.5, "w": 4.0}},
        "arrays": {"last": {"b": np.linspace(1, 2, 4), "w": np.linspace(3, 9, 12).reshape(3, 4)}},
    }
    options = {"trainable": last_only, "hessian_structure": structure, "progress": False}
    plain = fit_laplace(small.apply, small.params, small.loader, **options)
    posterior = fit_laplace(
        small.apply, small.params, small.loader, prior_precision=trees[form], **options
    )
    full = {
        "b": np.broadcast_to(trees[form]["last"]["b"], 4),
        "w": np.broadcast_to(trees[form]["last"]["w"], (3, 4)),
    }
    expected = plain.precision() - np.eye(16) + np.diag(np.r_[full["b"], full["w"].ravel()])
    np.testing.assert_allclose(posterior.precision(), expected, rtol=1e-12, atol=1e-12)
    assert posterior.prior_precision.keys() == {"last"}
    again = plain.with_prior_precision(trees[form])
    np.testing.assert_array_equal(again.covariance(), posterior.covariance())
    assert again.log_marginal_likelihood() == posterior.log_marginal_likelihood()
    assert plain.prior_precision == 1.0


def test_bernoulli_head_is_block_diagonal(small):
    y = np.eye(4, dtype=int)[small.y]
    options = {"trainable": last_only, "likelihood": "bernoulli", "progress": False}
    posterior = fit_laplace(small.apply, small.params, [(small.x, y)], **options)
    logits = np.asarray(small.apply(small.params, small.x), np.float64)
    hidden = np.tanh(small.x @ small.params["first"]["w"] + small.params["first"]["b"])
    a = np.c_[hidden, np.ones(12)]
    p = 1 / (1 + np.exp(-logits))
    order = posterior.linearised.head.layout.order()
    blocks = np.zeros((4, 4, 4, 4))
    for c in range(4):
        blocks[c, :, c, :] = (a * (p * (1 - p))[:, c : c + 1]).T @ a + np.eye(4)
    got = posterior.precision()[np.ix_(order, order)]
    np.testing.assert_allclose(got, blocks.reshape(16, 16), atol=100 * EPS32)
    probabilities = posterior.predict(small.x)
    variance = posterior.functional_variance(small.x)
    expected = 1 / (1 + np.exp(-logits / np.sqrt(1 + np.pi / 8 * variance)))
    np.testing.assert_allclose(probabilities, expected, atol=20 * EPS32)


def test_gaussian_head_predicts_mean_and_variance(small):
    targets = np.zeros((12, 4), np.float32)
    posterior = fit_laplace(
        small.apply,
        small.params,
        [(small.x, targets)],
        trainable=last_only,
        likelihood=Gaussian(noise_std=(0.1, 0.2, 0.3, 0.4)),
        progress=False,
    )
    mean, variance = posterior.predict(small.x)
    np.testing.assert_allclose(mean, small.apply(small.params, small.x), rtol=1e-5)
    epistemic = posterior.functional_variance(small.x)
    noise = np.square([0.1, 0.2, 0.3, 0.4])[None, :]
    np.testing.assert_allclose(variance, epistemic + noise, rtol=1e-6)


def test_monte_carlo_equals_the_integral(small):
    """Against many draws made by other means: numpy's multivariate normal, one point at a time."""
    posterior = fit_laplace(
        small.apply, small.params, small.loader, trainable=last_only, progress=False
    )
    n_samples = 20_000
    got = posterior.predict(small.x, "mc", n_samples=n_samples, seed=3)
    generator = np.random.default_rng(0)
    logits = np.asarray(small.apply(small.params, small.x))
    for n, covariance in enumerate(posterior.functional_covariance(small.x)):
        f = generator.multivariate_normal(logits[n], covariance, n_samples)
        p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        # Two independent means; five standard errors of their difference.
        bound = 5 * p.std(axis=0) * np.sqrt(2 / n_samples)
        assert (np.abs(got[n] - p.mean(axis=0)) < bound).all()
    assert np.abs(got - posterior.predict(small.x)).max() > 0.005  # it is not the probit link


def test_monte_carlo_does_not_depend_on_how_inputs_are_cut(digits):
    posterior = fit(digits, np.float32)
    x = digits.x[:150].astype(np.float32)
    whole = posterior.predict(x, "mc", n_samples=11, seed=5)
    parts = posterior.predict(InputsLoader.from_array_inputs(x, batch_size=37), "mc", 11, 5)
    # The draws are the same; the pass itself may round differently for another number of points.
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    other = posterior.predict(x, "mc", n_samples=11, seed=6)
    assert np.abs(other - whole).max() > 0.01


def test_whitened_samples_have_unit_covariance(digits, x64):
    posterior = fit(digits, prior_precision=0.5)
    n_samples = 4000
    tree = posterior.sample(1, n_samples)
    leaves = jax.tree.leaves(tree)
    draws = np.concatenate([np.asarray(leaf).reshape(n_samples, -1) for leaf in leaves], axis=1)
    root = np.linalg.cholesky(posterior.precision())
    white = (draws - posterior.mean) @ root
    covariance = white.T @ white / n_samples
    # Entries have variance 1/n (off) and 2/n (on the diagonal); 170^2 of them, so six sigma.
    off = covariance - np.diag(np.diag(covariance))
    assert np.abs(off).max() < 6 / np.sqrt(n_samples)
    assert np.abs(np.diag(covariance) - 1).max() < 6 * np.sqrt(2 / n_samples)
    assert np.abs(white.mean(axis=0)).max() < 6 / np.sqrt(n_samples)
    # All of them together: a chi-square of n P degrees of freedom.
    freedom = n_samples * 170
    assert abs((white**2).sum() - freedom) < 6 * np.sqrt(2 * freedom)


def test_samples_are_trees_in_the_parameters_dtype(small):
    posterior = fit_laplace(
        small.apply, small.params, small.loader, trainable=last_only, progress=False
    )
    tree = posterior.sample(0, 3)
    assert tree["last"]["w"].shape == (3, 3, 4)
    assert tree["last"]["b"].dtype == jnp.float32
    again = posterior.sample(0, 3)
    jax.tree.map(np.testing.assert_array_equal, tree, again)
    assert not np.array_equal(tree["last"]["w"], posterior.sample(1, 3)["last"]["w"])
    merged = posterior.merge(jax.tree.map(lambda leaf: leaf[0], tree))
    np.testing.assert_array_equal(merged["last"]["w"], tree["last"]["w"][0])
    np.testing.assert_array_equal(merged["first"]["w"], small.params["first"]["w"])


def test_a_kept_curvature_is_not_changed_by_other_priors(digits):
    posterior = fit(digits, np.float32)
    before = posterior.covariance()
    posterior.log_marginal_likelihood(50.0)
    changed = posterior.with_prior_precision(50.0)
    np.testing.assert_array_equal(posterior.covariance(), before)
    np.testing.assert_array_equal(changed.with_prior_precision(1.0).covariance(), before)


def test_what_is_kept_for_predictions_is_counted_and_given_back(digits):
    posterior = fit(digits)
    before = posterior.nbytes
    first = posterior.functional_covariance(digits.x)
    assert posterior.nbytes > before
    posterior.drop_cache()
    assert posterior.nbytes == before
    np.testing.assert_array_equal(posterior.functional_covariance(digits.x), first)
