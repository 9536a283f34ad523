"""Predictive distributions of a posterior: links, densities, regression, joint covariance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost import fit_laplace, memory
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import DataError, InvalidArgumentError, MemoryLimitError, ShapeError
from hoarfrost.likelihood import Gaussian, HeteroscedasticGaussian

EPS32 = float(np.finfo(np.float32).eps)
RNG = np.random.default_rng(2)


def last_only(path, value):
    return "last" in path


def fit(small, likelihood="categorical", trainable=last_only, targets=None, **options):
    targets = {
        "bernoulli": (small.y[:, None] > np.arange(4)).astype(int),
        "poisson": np.abs(small.y[:, None] - np.arange(4)),
    }.get(likelihood if isinstance(likelihood, str) else "", targets)
    if targets is None and likelihood != "categorical":
        targets = np.sin(small.y[:, None] + np.arange(4))
    loader = [(small.x, small.y if targets is None else targets)]
    return fit_laplace(
        small.apply,
        small.params,
        loader,
        likelihood=likelihood,
        trainable=trainable,
        progress=False,
        **options,
    ), loader


def log_softmax(f):
    f = np.asarray(f, np.float64)
    return (
        f
        - np.log(np.exp(f - f.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - f.max(-1, keepdims=True)
    )


@pytest.mark.parametrize("trainable", [last_only, None])
def test_nn_is_the_mixture_over_weight_samples(small, trainable):
    posterior, loader = fit(small, trainable=trainable)
    got = posterior.predict(small.x, "nn", n_samples=9, seed=4)
    samples = posterior.sample(4, 9)
    p = 0.0
    for s in range(9):
        params = posterior.merge(jax.tree.map(lambda leaf, s=s: leaf[s], samples))
        p = p + np.exp(log_softmax(small.apply(params, small.x))) / 9
    np.testing.assert_allclose(got, p, rtol=100 * EPS32)
    np.testing.assert_allclose(
        posterior.log_prob(loader, "nn", 9, 4), np.log(p[np.arange(12), small.y]), atol=1e-5
    )
    assert np.any(got != posterior.predict(small.x, "nn", n_samples=8, seed=4))
    assert np.any(got != posterior.predict(small.x, "nn", n_samples=9, seed=5))
    parts = InputsLoader.from_array_inputs(small.x, batch_size=5)
    np.testing.assert_allclose(posterior.predict(parts, "nn", 9, 4), got, rtol=1e-5)


@pytest.mark.parametrize("link", ["probit", "mc", "bridge", "nn"])
def test_log_probabilities_and_densities_agree(small, link):
    posterior, loader = fit(small, prior_precision=0.1)
    p = posterior.predict(small.x, link, n_samples=7, seed=1)
    assert p.shape == (12, 4)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    log_p = posterior.predict(small.x, link, n_samples=7, seed=1, log=True)
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-5)
    got = posterior.log_prob(loader, link, n_samples=7, seed=1)
    np.testing.assert_allclose(got, log_p[np.arange(12), small.y], rtol=1e-4, atol=1e-5)
    batches = DataLoader.from_array_data((small.x, small.y), batch_size=5)
    np.testing.assert_allclose(
        posterior.log_prob(batches, link, n_samples=7, seed=1), got, rtol=1e-4, atol=1e-5
    )


def test_links_differ(small):
    posterior, _ = fit(small, prior_precision=0.1)
    found = [posterior.predict(small.x, link, 400) for link in ("probit", "mc", "bridge")]
    for i, first in enumerate(found):
        for second in found[i + 1 :]:
            assert np.abs(first - second).max() > 0.005
    np.testing.assert_array_equal(posterior.predict(small.x), found[0])


@pytest.mark.parametrize("link", ["probit", "mc", "nn"])
def test_bernoulli(small, link):
    posterior, loader = fit(small, "bernoulli")
    p = posterior.predict(small.x, link, 11, 3)
    log_p = posterior.predict(small.x, link, 11, 3, log=True)
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-5)
    got = posterior.log_prob(loader, link, 11, 3)
    targets = loader[0][1]
    if link == "probit":
        expected = np.log(np.where(targets == 1, p, 1 - p)).sum(axis=1)
        np.testing.assert_allclose(got, expected, rtol=1e-4)
    else:
        # Labels share the weights: the density is no product of the labels' own.
        assert got.shape == (12,)
        assert (got < 0).all()
    with pytest.raises(InvalidArgumentError, match="link is 'bridge'; give one of 'probit', 'mc'"):
        posterior.predict(small.x, "bridge")


def test_two_class_softmax_equals_one_logit_at_half_the_precision(x64):
    """Of two classes only the difference counts, of which the prior variance is the sum."""
    x = RNG.normal(size=(30, 3))
    y = (x[:, 0] + 0.3 * RNG.normal(size=30) > 0).astype(int)
    kernel, tau = RNG.normal(size=(3, 1)), 0.8

    def apply(params, inputs):
        return inputs @ params["w"]

    def quadrature(mean, variance):
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        f = mean[:, None] + np.sqrt(variance)[:, None] * nodes
        return (1 / (1 + np.exp(-f))) @ weights / weights.sum()

    options = {"progress": False}
    two = fit_laplace(
        apply,
        {"w": np.concatenate([-kernel, kernel], axis=1) / 2},
        [(x, y)],
        prior_precision=tau,
        **options,
    )
    one = fit_laplace(
        apply,
        {"w": kernel},
        [(x, y)],
        likelihood="bernoulli",
        prior_precision=tau / 2,
        **options,
    )
    contrast = np.array([-1.0, 1.0])
    variance = np.einsum("c,bcd,d->b", contrast, two.functional_covariance(x), contrast)
    np.testing.assert_allclose(variance, one.functional_variance(x)[:, 0], rtol=1e-9)
    expected = quadrature((x @ kernel)[:, 0], variance)
    for posterior, p in (
        (two, two.predict(x, "mc", 20_000)[:, 1]),
        (one, one.predict(x, "mc", 20_000)[:, 0]),
    ):
        bound = 5 * np.sqrt(0.25 / 20_000)
        assert np.abs(p - expected).max() < bound, posterior
    assert np.abs(one.predict(x)[:, 0] - expected).max() < 0.02


def test_huge_logits_give_finite_log_probabilities(small):
    params = jax.tree.map(lambda leaf: leaf, small.params)
    params["last"] = {"w": small.params["last"]["w"] * 1e4, "b": small.params["last"]["b"]}
    loader = [(small.x, small.y)]
    posterior = fit_laplace(small.apply, params, loader, trainable=last_only, progress=False)
    for link in ("probit", "mc", "bridge", "nn"):
        log_p = posterior.predict(small.x, link, 5, log=True)
        assert np.isfinite(log_p).all(), link
        assert log_p.min() < -200
        assert np.isfinite(posterior.log_prob(loader, link, 5)).all()


@pytest.mark.parametrize("trainable", [last_only, None])
def test_gaussian_regression(small, trainable, x64):
    noise = np.array([0.1, 0.2, 0.3, 0.4])
    posterior, loader = fit(small, Gaussian(noise_std=noise), trainable)
    prediction = posterior.predict_regression(small.x)
    mean, variance = posterior.predict(small.x)
    np.testing.assert_array_equal(prediction.mean, mean)
    np.testing.assert_array_equal(prediction.variance, variance)
    np.testing.assert_allclose(mean, small.apply(small.params, small.x), rtol=1e-5)
    epistemic = posterior.functional_variance(small.x)
    np.testing.assert_allclose(prediction.epistemic_variance, epistemic, rtol=1e-5)
    np.testing.assert_allclose(prediction.noise_variance, np.tile(noise**2, (12, 1)), rtol=1e-5)
    np.testing.assert_allclose(prediction.std**2, variance, rtol=1e-5)
    # The density: a Gaussian with what the outputs of a point share.
    covariance = posterior.functional_covariance(small.x) + np.diag(noise**2)
    residual = loader[0][1] - mean
    expected = [
        -0.5 * (r @ np.linalg.solve(c, r) + np.linalg.slogdet(2 * np.pi * c)[1])
        for r, c in zip(residual, covariance, strict=True)
    ]
    np.testing.assert_allclose(posterior.log_prob(loader), expected, rtol=1e-4)
    # Samples find it where they come near the target, as they do at the mean.
    near = [(small.x, mean)]
    error = np.abs(posterior.log_prob(near, "mc", 4000) - posterior.log_prob(near))
    assert 0 < error.max() < 0.3
    through = posterior.predict_regression(small.x, "nn", 4000)
    assert through.mean.shape == (12, 4)
    if trainable is last_only:
        np.testing.assert_allclose(through.epistemic_variance, epistemic, rtol=0.2)
    assert np.any(through.mean != mean)


def test_quantiles_and_intervals(small):
    posterior, _ = fit(small, Gaussian(noise_std=0.5))
    prediction = posterior.predict_regression(small.x)
    np.testing.assert_allclose(prediction.quantile(0.5), prediction.mean, rtol=1e-6)
    upper = prediction.mean + 1.6448536 * prediction.std
    np.testing.assert_allclose(prediction.quantile([0.05, 0.95])[1], upper, rtol=1e-5)
    low, high = prediction.credible_interval(error=0.1)
    np.testing.assert_allclose(high, upper, rtol=1e-5)
    np.testing.assert_allclose(low + high, 2 * prediction.mean, rtol=1e-4, atol=1e-5)
    low, high = prediction.credible_interval(0.05, "right-tailed")
    np.testing.assert_allclose(high, upper, rtol=1e-5)
    assert (low == -np.inf).all()
    low, high = prediction.credible_interval(0.95, "left-tailed")
    np.testing.assert_allclose(low, upper, rtol=1e-5)
    assert (high == np.inf).all()
    for call, message in (
        (lambda: prediction.quantile(1.0), "q is 1.0; give a number between 0 and 1"),
        (lambda: prediction.quantile([]), r"q is \[\]"),
        (lambda: prediction.credible_interval(0.0), "error is 0.0; give a number"),
        (
            lambda: prediction.credible_interval(0.1, "both"),
            "interval_type is 'both'; give one of 'two",
        ),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            call()


def test_predicted_noise(small):
    targets = np.sin(small.y[:, None] + np.arange(2)).astype(np.float32)
    posterior, loader = fit(small, HeteroscedasticGaussian(), targets=targets)
    outputs = np.asarray(small.apply(small.params, small.x), np.float64)
    variance = posterior.functional_variance(small.x)
    prediction = posterior.predict_regression(small.x)
    np.testing.assert_allclose(prediction.mean, outputs[:, :2], rtol=1e-5)
    np.testing.assert_allclose(prediction.epistemic_variance, variance[:, :2], rtol=1e-5)
    noise = np.exp(outputs[:, 2:] + variance[:, 2:] / 2)
    np.testing.assert_allclose(prediction.noise_variance, noise, rtol=1e-5)
    many = posterior.predict_regression(small.x, "nn", 20_000)
    np.testing.assert_allclose(many.noise_variance, noise, rtol=0.2)
    assert np.isfinite(posterior.log_prob(loader)).all()
    assert posterior.log_prob(loader, "nn", 3).shape == (12,)


def test_counts(small):
    posterior, loader = fit(small, "poisson")
    prediction = posterior.predict_regression(small.x)
    many = posterior.predict_regression(small.x, "nn", 20_000)
    np.testing.assert_allclose(many.mean, prediction.mean, rtol=0.1)
    assert np.isfinite(posterior.log_prob(loader)).all()
    with pytest.raises(InvalidArgumentError, match="targets are not Gaussian"):
        prediction.quantile(0.5)


@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", Gaussian(noise_std=0.7)])
@pytest.mark.parametrize("trainable", [last_only, None])
def test_joint_covariance_equals_the_dense_product(small, structure, likelihood, trainable, x64):
    posterior, _ = fit(small, likelihood, trainable, hessian_structure=structure)
    x = small.x[:5]
    got = posterior.functional_covariance(x, joint=True)
    assert got.shape == (5, 4, 5, 4)

    def outputs(tree):
        return small.apply(posterior.merge(tree), x).reshape(-1)

    tree = posterior.linearised.trainable
    leaves = jax.tree.leaves(jax.jacobian(outputs)(tree))
    jacobian = np.concatenate([np.asarray(leaf).reshape(20, -1) for leaf in leaves], axis=1)
    expected = jacobian @ posterior.covariance() @ jacobian.T
    np.testing.assert_allclose(got.reshape(20, 20), expected, atol=1e-5 * np.abs(expected).max())
    points = np.arange(5)
    np.testing.assert_allclose(
        got[points, :, points], posterior.functional_covariance(x), rtol=1e-5, atol=1e-7
    )
    loader = InputsLoader.from_array_inputs(x, batch_size=2)
    np.testing.assert_allclose(
        posterior.functional_covariance(loader, joint=True), got, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("trainable", [last_only, None])
def test_a_joint_covariance_that_does_not_fit_is_said_before(small, trainable, monkeypatch):
    posterior, _ = fit(small, trainable=trainable)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(MemoryLimitError, match=r"joint covariance of 4 outputs at 12 inputs") as e:
        posterior.functional_covariance(small.x, joint=True)
    assert e.value.bytes_available == 1000
    # The result once, and less than as much again for what it is made from.
    assert 8 * 48**2 < e.value.bytes_needed < 2 * 8 * 48**2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda p, x, y: p.predict(x, log=True),
            InvalidArgumentError,
            "log is True, but predictions of the gaussian likelihood are no",
        ),
        (lambda p, x, y: p.predict(x, "mc"), InvalidArgumentError, "link is 'mc'; .* closed form"),
        (lambda p, x, y: p.log_prob([(x, y)], "bridge"), InvalidArgumentError, "link is 'bridge'"),
        (lambda p, x, y: p.log_prob([(x, y[:, 0])]), ShapeError, "targets of batch 0 have shape"),
        (
            lambda p, x, y: p.log_prob([(x, y[:3])]),
            DataError,
            "data_loader: .*inputs has 12, targets has 3",
        ),
        (lambda p, x, y: p.log_prob([]), DataError, "data_loader: the data loader is empty"),
        (lambda p, x, y: p.predict(x[:0], "nn"), DataError, "inputs are empty"),
        (lambda p, x, y: p.log_prob([(x, y)], seed=-1), InvalidArgumentError, "seed is -1"),
        (lambda p, x, y: p.predict_regression(x, "nn", 0), InvalidArgumentError, "n_samples is 0"),
    ],
)
def test_bad_arguments(small, call, error, message):
    posterior, _ = fit(small, Gaussian(noise_std=0.5))
    with pytest.raises(error, match=message):
        call(posterior, small.x, np.zeros((12, 4), np.float32))


def test_regression_methods_on_classes(small):
    posterior, _ = fit(small)
    with pytest.raises(InvalidArgumentError, match="predict_regression is for real targets"):
        posterior.predict_regression(small.x)
    with pytest.raises(InvalidArgumentError, match="targets of batch 1 hold the label 4"):
        posterior.log_prob([(small.x, small.y), (small.x, small.y * 0 + 4)])


def test_a_network_of_samples_is_compiled_once(small):
    traces = []

    def counted(params, x):
        traces.append(x.shape)
        return small.apply(params, x)

    posterior = fit_laplace(
        counted, small.params, small.loader, trainable=last_only, progress=False
    )
    posterior.predict(jnp.asarray(small.x), "nn", 3)
    before = len(traces)
    posterior.predict(jnp.asarray(small.x) + 1, "nn", 3, seed=9)
    assert len(traces) == before
