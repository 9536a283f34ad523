"""Log-densities in float64 from the outputs on, wherever they go, against SciPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, NonFiniteError
from hoarfrost.likelihood import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Poisson,
    density_precision,
    exact_log_prob,
)
from hoarfrost.predictive import mixture

stats = pytest.importorskip("scipy.stats")
special = pytest.importorskip("scipy.special")
RNG = np.random.default_rng(0)
EPS = np.finfo(np.float64).eps


def log_density(likelihood, outputs, targets):
    with density_precision(likelihood):
        found = jax.jit(exact_log_prob)(likelihood, jnp.asarray(outputs, jnp.float32), targets)
    assert found.dtype == np.float64
    return np.asarray(found)


def oracle(likelihood, outputs, targets):
    """By SciPy, in float64, from outputs as float32 has them; shape ``(B,)``."""
    outputs = np.asarray(np.asarray(outputs, np.float32), np.float64)
    targets = np.asarray(targets)
    if isinstance(likelihood, Categorical):
        return special.log_softmax(outputs, axis=1)[np.arange(len(targets)), targets]
    if isinstance(likelihood, Bernoulli):
        signs = 2.0 * targets.reshape(outputs.shape) - 1
        return special.log_expit(signs * outputs).sum(1)
    if isinstance(likelihood, Poisson):
        counts = targets.reshape(outputs.shape)
        # SciPy's own adds up terms of the size y log y; its binomial of many trials does not.
        return stats.poisson.logpmf(counts, np.exp(outputs)).sum(1)
    if isinstance(likelihood, HeteroscedasticGaussian):
        mean, log_variance = np.split(outputs, 2, axis=1)
        return stats.norm.logpdf(targets.reshape(mean.shape), mean, np.exp(log_variance / 2)).sum(1)
    return stats.norm.logpdf(targets, outputs, likelihood.noise_std).sum(1)


def rounding(likelihood, outputs):
    """Of a difference of logits in float64; all else has no term larger than the result."""
    return 4 * EPS * np.abs(outputs).max() if isinstance(likelihood, Categorical) else 1e-15


def test_a_hundred_counts_of_a_million():
    outputs, counts = np.full((100, 1), np.log(1e6)), np.full(100, 10**6)
    total = log_density(Poisson(), outputs, counts).sum()
    np.testing.assert_allclose(total, -782.7, atol=0.05)
    np.testing.assert_allclose(total, oracle(Poisson(), outputs, counts).sum(), rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 100, 10**6, 10**8, 2**31, 2**40, 10**15])
@pytest.mark.parametrize("shift", [-1.0, -1e-3, 0.0, 1e-4, 0.5])
def test_counts_of_any_size(count, shift):
    outputs = np.full((2, 1), np.log(max(count, 1)) + shift)
    counts = np.full(2, count, np.int64)
    got = log_density(Poisson(), outputs, counts)
    # What the oracle itself loses: its terms are of the size y log y.
    slack = 8 * EPS * count * np.log(count + 2.0)
    np.testing.assert_allclose(got, oracle(Poisson(), outputs, counts), rtol=1e-12, atol=slack)
    as_numbers = log_density(Poisson(), outputs, counts.astype(np.float64))
    np.testing.assert_array_equal(got, as_numbers)


def test_the_most_likely_of_many_counts_by_stirling():
    # Where no term is large: log p(y | y) = -log(2 pi y) / 2 - 1 / (12 y) + O(y^-3).
    with density_precision(Poisson()):
        for count in (10**9, 2**31, 10**12, 10**15):
            outputs = jnp.full((1, 1), np.log(count), jnp.float64)
            got = exact_log_prob(Poisson(), outputs, np.array([count]))
            expected = -np.log(2 * np.pi * count) / 2 - 1 / (12 * count)
            # The rounding of log(count) itself, squared, times the count.
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=count * (40 * EPS) ** 2)


EXTREME = [
    (Poisson(), [[90.0], [-90.0], [-90.0], [0.0]], [3, 0, 2, 0]),
    (Poisson(), [[90.0, -90.0]], [[2.0**31, 1.0]]),
    (HeteroscedasticGaussian(), [[0.0, 90.0], [0.0, -90.0], [1.0, -90.0]], [1.0, 0.0, 1.5]),
    (HeteroscedasticGaussian(), [[1e9, 0.0], [16777216.0, -2.0]], [1e9 + 1, 16777217.0]),
    (Gaussian(1e-40), [[0.0, 1.0]], [[0.0, 1.0 + 1e-12]]),
    (Gaussian(1e40), [[0.0, 1.0]], [[1e37, 1.0]]),
    (Gaussian((1.0, 0.5)), [[16777216.0, 1.0]], [[16777217.0, 1.0]]),
    (Categorical(), [[90.0, -90.0, 0.0], [1e4, -1e4, 0.0]], [1, 2]),
    (Categorical(), [[17.0, 0.0]], [0]),
    (Bernoulli(), [[90.0], [-90.0], [1e4], [17.0]], [0, 1, 0, 1]),
]
IDS = [f"{one.name}{index}" for index, (one, _, _) in enumerate(EXTREME)]


@pytest.mark.parametrize(("likelihood", "outputs", "targets"), EXTREME, ids=IDS)
def test_extreme_outputs_and_targets(likelihood, outputs, targets):
    got = log_density(likelihood, outputs, np.asarray(targets))
    wanted = oracle(likelihood, outputs, targets)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=rounding(likelihood, outputs))


@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
@pytest.mark.parametrize(("likelihood", "outputs", "targets"), EXTREME, ids=IDS)
def test_the_evidence_and_log_prob_of_a_posterior(likelihood, outputs, targets, structure):
    outputs, targets = np.float32(outputs), np.asarray(targets)
    params = {"shift": np.zeros((1, outputs.shape[1]), np.float32)}

    # A function of which no last layer is found: rows of the Jacobian are formed.
    def network(params, x):
        return x + params["shift"]

    fit = functools.partial(
        hoarfrost.fit_laplace,
        network,
        params,
        [(outputs, targets)],
        likelihood=likelihood,
        hessian_structure=structure,
        progress=False,
    )
    wanted = oracle(likelihood, outputs, targets)
    posterior = fit(prior_precision=1e60)
    slack = rounding(likelihood, outputs)
    np.testing.assert_allclose(posterior.log_likelihood, wanted.sum(), rtol=1e-12, atol=slack)
    for link in ("mc", "nn"):
        got = posterior.log_prob([(outputs, targets)], link, n_samples=2)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=slack)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, ">i8"])
@pytest.mark.parametrize("count", [2**31, 2**40, 2**53])
def test_counts_that_jax_has_no_integers_for(count, dtype):
    outputs = np.full((3, 1), np.log(count), np.float32)
    counts = np.array([count, count - 1, 7], dtype)
    params = {"shift": np.zeros((1, 1), np.float32)}

    def fit(counts):
        return hoarfrost.fit_laplace(
            lambda p, x: x + p["shift"],
            params,
            [(outputs, counts)],
            likelihood="poisson",
            prior_precision=1e60,
            progress=False,
        )

    posterior, as_numbers = fit(counts), fit(counts.astype(np.float64))
    assert posterior.log_likelihood == as_numbers.log_likelihood
    wanted = oracle(Poisson(), outputs, counts.astype(np.int64))
    # What the oracle itself loses: its terms are of the size y log y.
    slack = 8 * EPS * count * np.log(count + 2.0)
    np.testing.assert_allclose(posterior.log_likelihood, wanted.sum(), rtol=1e-12, atol=3 * slack)
    for link in ("mc", "nn"):
        got = posterior.log_prob([(outputs, counts)], link, n_samples=2)
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=slack)
        np.testing.assert_array_equal(
            got, as_numbers.log_prob([(outputs, counts.astype(float))], link, n_samples=2)
        )


def test_what_is_no_count_has_the_size_of_jax_integers():
    for likelihood, targets in (("gaussian", [[2**40]]), ("categorical", [2**40])):
        with pytest.raises(InvalidArgumentError, match="targets of batch 0 of data_loader hold"):
            hoarfrost.fit_laplace(
                lambda p, x: x + p["shift"],
                {"shift": np.zeros((1, 2 - (likelihood == "gaussian")), np.float32)},
                [(np.ones((1, 1), np.float32), np.array(targets))],
                likelihood=likelihood,
                progress=False,
            )


def test_validation_tuning_sees_float64():
    x = np.float32(RNG.normal(size=(30, 2)))
    kernel = np.float32([[0.01], [0.02]])
    rates = np.exp(np.log(1e8) + x @ kernel)
    counts = RNG.poisson(rates).astype(np.int64)
    params = {"kernel": kernel, "bias": np.float32([np.log(1e8)])}
    posterior = hoarfrost.fit_laplace(
        lambda p, x: x @ p["kernel"] + p["bias"],
        params,
        [(x, counts)],
        likelihood="poisson",
        prior_precision=1e4,
        progress=False,
    )
    outputs = np.asarray(x @ kernel + np.float32(np.log(1e8)))
    wanted = oracle(Poisson(), outputs, counts).sum()
    # float32 outputs of 18.4 are known to 1e-6, which 1e8 counts feel.
    np.testing.assert_allclose(posterior.log_likelihood, wanted, rtol=1e-2)
    assert -20 < posterior.log_prob([(x, counts)], n_samples=20).mean() < -8
    posterior.optimize_on([(x, counts)], n_samples=20)
    assert np.isfinite(posterior.log_prob([(x, counts)], n_samples=20)).all()


def test_curvature_weights_beyond_float32():
    """``exp(90)`` is larger than any float32; the curvature is in float64."""
    x = np.float32([[1.0, 0.5]])
    params = {"kernel": np.float32([[90.0], [0.0]])}

    def network(params, x):
        return x @ params["kernel"]

    posterior = hoarfrost.fit_laplace(
        network,
        params,
        [(x, np.array([[5]]))],
        likelihood="poisson",
        prior_precision=1e38,
        progress=False,
    )
    assert posterior.linearised.head is not None
    expected = np.exp(90.0) * x.T.astype(float) @ x + 1e38 * np.eye(2)
    np.testing.assert_allclose(posterior.precision(), expected, rtol=1e-6)
    with pytest.raises(NonFiniteError, match="too large for float32"):
        posterior.predict(x)
    with pytest.raises(NonFiniteError, match="too large for float32"):
        posterior.predict(x, "nn", n_samples=3)


def test_weights_beyond_float64_are_an_error():
    def network(params, x):
        return x @ params["kernel"]

    params = {"kernel": np.float32([[800.0]])}
    with pytest.raises(NonFiniteError, match="exponential of 800, a log-rate"):
        hoarfrost.fit_laplace(
            network,
            params,
            [(np.ones((1, 1), np.float32), np.array([[5]]))],
            likelihood="poisson",
            progress=False,
        )


def test_no_likelihood_is_taken_for_another_in_a_program():
    kinds = (mixture.Mean, mixture.Moments, mixture.LogProbabilities, mixture.TargetLogProb)
    plain = [Bernoulli(), Categorical(), Poisson(), HeteroscedasticGaussian(), Gaussian(1.0)]
    nested = [kind(likelihood) for kind in kinds for likelihood in plain]
    for group in (plain, nested):
        for one, other in itertools.combinations(group, 2):
            assert jax.tree.structure(one) != jax.tree.structure(other)


def test_the_derivative_of_each_form_of_the_count_density():
    counts = jnp.array([[0], [3], [15], [16], [500], [10**6]])
    outputs = jnp.array([[-3.0], [90.0], [0.0], [0.0], [90.0], [13.0]])
    gradient = jax.grad(lambda f: Poisson().log_prob(f, counts).sum())(outputs)
    exact = np.asarray(counts, float) - np.exp(np.asarray(outputs, float))
    np.testing.assert_allclose(gradient[np.isfinite(gradient)], exact[np.isfinite(gradient)], 1e-5)
    assert np.isfinite(gradient).sum() == 4  # exp(90) is no float32


def test_nothing_is_compiled_twice():
    x, counts = np.float32(RNG.normal(size=(8, 2))), RNG.poisson(3, (8, 1))
    params = {"kernel": np.float32([[0.1], [0.2]])}
    posterior = hoarfrost.fit_laplace(
        lambda p, x: x @ p["kernel"], params, [(x, counts)], likelihood="poisson", progress=False
    )
    data = DataLoader.from_array_data((x, counts), batch_size=8)
    for link in ("mc", "nn"):
        posterior.log_prob(data, link)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    for link in ("mc", "nn"):
        posterior.with_prior_precision(3.0).log_prob(data, link)
    assert not compiled
