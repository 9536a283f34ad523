"""Likelihoods against SciPy-free closed forms and `jax.hessian` in float64."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hoarfrost
from hoarfrost.errors import InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.likelihood import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Likelihood,
    Poisson,
    Regression,
    resolve,
)

RNG = np.random.default_rng(0)
CASES = [
    (Categorical(), RNG.normal(size=(5, 4)), RNG.integers(0, 4, 5)),
    (Categorical(), RNG.normal(size=(5, 2)), RNG.integers(0, 2, 5)),
    (Bernoulli(), RNG.normal(size=(5, 1)), RNG.integers(0, 2, 5)),
    (Bernoulli(), RNG.normal(size=(5, 3)), RNG.integers(0, 2, (5, 3))),
    (Gaussian(0.7), RNG.normal(size=(5, 2)), RNG.normal(size=(5, 2))),
    (Gaussian([0.5, 2.0]), RNG.normal(size=(5, 2)), RNG.normal(size=(5, 2))),
    (Poisson(), RNG.normal(size=(5, 1)), RNG.integers(0, 9, 5)),
    (Poisson(), RNG.normal(size=(5, 3)), RNG.integers(0, 9, (5, 3))),
]
IDS = ["softmax4", "softmax2", "logit", "multilabel", "noise", "noises", "count", "counts"]
PREDICTED_NOISE = [
    (HeteroscedasticGaussian(), RNG.normal(size=(5, 2)), RNG.normal(size=5)),
    (HeteroscedasticGaussian(), RNG.normal(size=(5, 4)), RNG.normal(size=(5, 2))),
]
arguments = ("likelihood", "outputs", "targets")
canonical = pytest.mark.parametrize(arguments, CASES, ids=IDS)
each = pytest.mark.parametrize(
    arguments, CASES + PREDICTED_NOISE, ids=[*IDS, "predicted", "predicted2"]
)


@canonical
def test_curvature_is_the_negative_hessian(likelihood, outputs, targets, x64):
    def negative(one_output, one_target):
        return -likelihood.log_prob(one_output[None], one_target[None])[0]

    hessian = jax.jit(jax.vmap(jax.hessian(negative)))(outputs, targets)
    curvature = jax.jit(likelihood.output_curvature)(outputs)
    np.testing.assert_allclose(curvature, hessian, atol=1e-14)


@pytest.mark.parametrize(arguments, PREDICTED_NOISE)
def test_curvature_of_predicted_noise_is_the_mean_hessian(likelihood, outputs, targets, x64):
    # The Hessian is quadratic in the target, so a quadrature of 5 nodes gives its mean exactly.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    num_targets = outputs.shape[1] // 2

    def negative(one_output, one_target):
        return -likelihood.log_prob(one_output[None], one_target[None])[0]

    hessian, mean = jax.jit(jax.vmap(jax.hessian(negative))), 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        std = np.exp(outputs[:, num_targets:] / 2)
        mean = mean + weight * hessian(outputs, outputs[:, :num_targets] + std * node)
    curvature = jax.jit(likelihood.output_curvature)(outputs)
    np.testing.assert_allclose(curvature, mean, atol=1e-13)
    # While at an observed target it may well be indefinite, and no precision.
    observed = np.linalg.eigvalsh(hessian(outputs, targets.reshape(5, num_targets)))
    assert observed.min() < 0 < np.linalg.eigvalsh(curvature).min()


@each
def test_root_squares_to_the_curvature(likelihood, outputs, targets, x64):
    outputs = jnp.asarray(outputs)
    root = np.asarray(jax.jit(likelihood.curvature_root)(outputs))
    curvature = jax.jit(likelihood.output_curvature)(outputs)
    np.testing.assert_allclose(root @ root.swapaxes(1, 2), curvature, atol=1e-15)
    columns = outputs.shape[1] - (likelihood.head == "softmax")
    assert root.shape == (*outputs.shape, columns)


@each
def test_head_weights_are_the_diagonal(likelihood, outputs, targets, x64):
    curvature = jax.jit(likelihood.output_curvature)(outputs)
    weights = likelihood.head_weights(outputs)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, np.einsum("bcc->bc", curvature), rtol=1e-13)


@each
def test_is_a_static_argument(likelihood, outputs, targets, strict):
    assert isinstance(likelihood, Likelihood) and isinstance(hash(likelihood), int)
    likelihood.check_outputs(outputs.shape)
    likelihood.check_targets(targets, outputs.shape[1], 0)
    program = jax.jit(lambda li, f, y: li.log_prob(f, y), static_argnums=0)
    assert program(likelihood, outputs, targets).shape == (5,)


@each
def test_last_layer_of_each_likelihood(likelihood, outputs, targets, x64):
    inputs, num_outputs = RNG.normal(size=(5, 3)), outputs.shape[1]
    # A kernel that gives just these outputs would need 5 features; these are others, as good.
    params = {"w": jnp.asarray(RNG.normal(size=(3, num_outputs)))}
    curvature = np.asarray(likelihood.output_curvature(jnp.asarray(inputs) @ params["w"]))
    expected = np.einsum("ni,nj,ncd->icjd", inputs, inputs, curvature)
    expected = expected.reshape(3 * num_outputs, -1) + 2.0 * np.eye(3 * num_outputs)
    for structure in ("full", "diag"):
        posterior = hoarfrost.fit_laplace(
            _linear,
            params,
            [(inputs, targets)],
            likelihood=likelihood,
            prior_precision=2.0,
            hessian_structure=structure,
            progress=False,
        )
        assert posterior.linearised.head is not None
        wanted = expected if structure == "full" else np.diag(np.diag(expected))
        np.testing.assert_allclose(posterior.precision(), wanted, rtol=1e-10, atol=1e-12)
        log_prob = likelihood.log_prob(jnp.asarray(inputs) @ params["w"], jnp.asarray(targets))
        np.testing.assert_allclose(posterior.log_likelihood, log_prob.sum(), rtol=1e-10)


def _linear(params, inputs):
    return inputs @ params["w"]


@pytest.mark.parametrize(
    "likelihood",
    [HeteroscedasticGaussian(), Poisson(), Bernoulli()],
    ids=["predicted", "counts", "logit"],
)
def test_targets_without_an_axis_are_one_output_and_never_broadcast(likelihood):
    outputs = RNG.normal(size=(6, 2 if likelihood.name.startswith("hetero") else 1))
    targets = RNG.integers(0, 2, 6)
    likelihood.check_targets(targets, outputs.shape[1], 0)
    flat = likelihood.log_prob(jnp.asarray(outputs), jnp.asarray(targets))
    column = likelihood.log_prob(jnp.asarray(outputs), jnp.asarray(targets[:, None]))
    assert flat.shape == (6,) and np.unique(flat).size > 2
    np.testing.assert_array_equal(flat, column)


@pytest.mark.parametrize(
    "likelihood", [Gaussian([0.5, 2.0]), Poisson(), HeteroscedasticGaussian()], ids=lambda x: x.name
)
def test_moments_of_the_targets_under_gaussian_outputs(likelihood, x64):
    assert isinstance(likelihood, Regression) and not isinstance(Categorical(), Regression)
    outputs, variance = RNG.normal(size=(5, 2)), RNG.uniform(0.1, 0.5, (5, 2))
    # Moments over independent Gaussian outputs, by a product rule that is exact to rounding here.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    pairs = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 1, 2)
    weight = np.outer(weights, weights).reshape(-1, 1, 1) / weights.sum() ** 2
    points = jnp.asarray(outputs + np.sqrt(variance) * pairs)
    means, noises = jax.vmap(likelihood.mean)(points), jax.vmap(likelihood.variance)(points)
    centre = np.sum(weight * means, axis=0)
    expected = centre, np.sum(weight * (means - centre) ** 2, axis=0), np.sum(weight * noises, 0)
    for got, want in zip(likelihood.target_moments(outputs, variance), expected, strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-9)


def test_log_prob_of_each_likelihood(x64):
    f = np.array([[0.2, -1.0, 3.0]])
    p = np.exp(f) / np.exp(f).sum()
    got = Categorical().log_prob(jnp.asarray(f), jnp.array([1]))
    np.testing.assert_allclose(got, np.log(p[:, 1]), rtol=1e-14)
    q = 1 / (1 + np.exp(-f[0]))
    got = Bernoulli().log_prob(jnp.asarray(f), jnp.array([[1, 0, 1]]))
    np.testing.assert_allclose(got, np.log(q[0] * (1 - q[1]) * q[2]), rtol=1e-13)
    y = np.array([[1.0, 0.0, 2.0]])
    expected = (-0.5 * ((y - f) / 0.7) ** 2 - math.log(0.7) - 0.5 * math.log(2 * math.pi)).sum()
    np.testing.assert_allclose(Gaussian(0.7).log_prob(jnp.asarray(f), y), expected, rtol=1e-13)
    predicted = jnp.asarray(np.concatenate([f, np.full((1, 3), 2 * math.log(0.7))], axis=1))
    np.testing.assert_allclose(HeteroscedasticGaussian().log_prob(predicted, y), expected)
    counts = np.array([[2, 0, 4]])
    rates = np.exp(f[0])
    by_hand = rates ** counts[0] * np.exp(-rates) / np.array([2.0, 1.0, 24.0])
    got = Poisson().log_prob(jnp.asarray(f), jnp.asarray(counts))
    np.testing.assert_allclose(got, np.log(by_hand).sum(), rtol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("likelihood", [Categorical(), Bernoulli()], ids=["softmax", "logits"])
def test_finite_at_extreme_logits(likelihood, dtype, strict):
    outputs = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, -1e4]], dtype)
    targets = jnp.array([1, 0, 2]) if likelihood.head == "softmax" else jnp.ones((3, 3), int)
    log_prob = likelihood.log_prob(outputs, targets)
    assert np.isfinite(log_prob).all() and log_prob.dtype == jnp.float32
    assert log_prob[0] <= -9e3
    for array in (
        jax.jit(likelihood.output_curvature)(outputs),
        jax.jit(likelihood.curvature_root)(outputs),
        jax.jit(likelihood.mean)(outputs),
        likelihood.head_weights(np.asarray(outputs, np.float64)),
    ):
        assert np.isfinite(array).all()


def test_root_keeps_its_accuracy_in_float32_where_p_is_nearly_one():
    # p = (1 - 1e-9, 1e-9, 1e-11, ...): 1 - p_0 formed by subtraction would be 0 or 6e-8.
    for winner in range(4):
        p = np.array([1e-9, 1e-11, 3e-13, 1e-15])
        p[winner] = 1 - (p.sum() - p[winner])
        outputs = np.log(p)[None].astype(np.float32)
        exact = np.exp(outputs[0].astype(np.float64))
        exact /= exact.sum()
        off = 1 - np.eye(4)
        expected = np.diag(exact * (off @ exact)) - off * np.outer(exact, exact)
        root = np.asarray(Categorical().curvature_root(jnp.asarray(outputs)))[0].astype(np.float64)
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert np.all(np.abs(root @ root.T - expected) <= 1e-5 * scale)
        curvature = np.asarray(Categorical().output_curvature(jnp.asarray(outputs)))[0]
        assert np.all(np.abs(curvature - expected) <= 1e-5 * scale)


def test_resolve():
    assert resolve("categorical") == Categorical() and resolve("bernoulli") == Bernoulli()
    assert resolve(Gaussian(2.0)) == Gaussian(2.0) and resolve("poisson") == Poisson()
    for wrong in ("softmax", Categorical, 3):
        with pytest.raises(InvalidArgumentError, match="give 'categorical', 'bernoulli'"):
            resolve(wrong)


@pytest.mark.parametrize(
    ("likelihood", "targets", "num_outputs", "error", "message"),
    [
        (
            Categorical(),
            np.array([0, 3]),
            3,
            InvalidArgumentError,
            "batch 7 hold the label 3; .*0..2",
        ),
        (Categorical(), np.array([-1, 0]), 3, InvalidArgumentError, "label -1"),
        (Categorical(), np.array([0.5, 1.0]), 3, InvalidArgumentError, "hold 0.5; labels must be"),
        (Categorical(), np.array([np.nan, 1.0]), 3, NonFiniteError, "batch 7 hold nan at index"),
        (Categorical(), np.zeros((2, 1), int), 3, ShapeError, r"shape \(2, 1\).*squeeze a column"),
        (Categorical(), np.array(["a", "b"]), 3, InvalidArgumentError, "dtype <U1"),
        (Bernoulli(), np.array([0, 2]), 1, InvalidArgumentError, "label 2; .*0..1"),
        (Bernoulli(), np.array([0, 1]), 3, ShapeError, r"needs \(batch, 3\)"),
        (Gaussian(1.0), np.array([0.0, 1.0]), 1, ShapeError, r"targets\[:, None\]"),
        (Poisson(), np.array([1, -2]), 1, InvalidArgumentError, "hold -2.0; counts must be whole"),
        (Poisson(), np.array([1.0, 0.5]), 1, InvalidArgumentError, "hold 0.5; counts"),
        (Poisson(), np.array([1, 2]), 2, ShapeError, r"needs \(batch, 2\), one count"),
        (HeteroscedasticGaussian(), np.zeros((2, 2)), 2, ShapeError, r"\(batch, 1\) or \(batch,\)"),
        (HeteroscedasticGaussian(), np.zeros(4), 8, ShapeError, r"with 4 predicted means"),
        (HeteroscedasticGaussian(), np.array([np.nan]), 2, NonFiniteError, "hold nan at index"),
        (Gaussian(1.0), np.array([[np.inf]]), 1, NonFiniteError, r"hold inf at index \(0, 0\)"),
    ],
)
def test_targets_that_do_not_fit(likelihood, targets, num_outputs, error, message):
    with pytest.raises(error, match=message):
        likelihood.check_targets(targets, num_outputs, 7)


@pytest.mark.parametrize(
    ("likelihood", "shape", "message"),
    [
        (Categorical(), (5, 1), "at least 2 outputs: .*bernoulli"),
        (Categorical(), (5, 2, 3), r"outputs have shape \(5, 2, 3\)"),
        (Bernoulli(), (5,), "one logit a label"),
        (Poisson(), (5,), "one log-rate a count"),
        (HeteroscedasticGaussian(), (5, 3), r"needs \(batch, 2 D\): D means, then D log-variances"),
        (Gaussian([1.0, 2.0]), (5, 3), "noise_std holds 2 numbers but the network has 3"),
    ],
)
def test_outputs_that_do_not_fit(likelihood, shape, message):
    with pytest.raises(ShapeError, match=message):
        likelihood.check_outputs(shape)


def test_labels_in_every_usual_dtype():
    for dtype in (np.uint8, np.int64, np.float32, jnp.bfloat16, np.bool_):
        Categorical().check_targets(np.array([0, 1]).astype(dtype), 2, 0)


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan, [], [[1.0]]])
def test_noise_that_is_not_positive(noise):
    with pytest.raises(InvalidArgumentError, match=r"noise_std is .*; give a positive number"):
        Gaussian(noise)
