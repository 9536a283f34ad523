"""Any trainable subset, and what holds for every structure: invariances, dtypes, no retracing."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from versions import enable_x64

from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.laplace import fit_laplace

EPS32 = float(np.finfo(np.float32).eps)


def last_only(path, _):
    return "last" in path or "head" in path


SUBSETS = {
    "head": last_only,
    "hidden": lambda path, _: "first" in path,
    "all": None,
}


def fit(small, subset="all", loader=None, **options):
    return fit_laplace(
        small.apply,
        small.params,
        loader or small.loader,
        trainable=SUBSETS[subset],
        progress=False,
        **options,
    )


def dense_ggn(small, posterior):
    """H by the textbook formula."""
    partition = posterior.linearised.subset.partition
    selected, frozen = partition.split(small.params)
    flat, unravel = ravel_pytree(selected)
    jacobian = np.asarray(
        jax.jacobian(lambda v: small.apply(partition.merge(unravel(v), frozen), small.x))(flat),
        np.float64,
    )
    p = np.asarray(jax.nn.softmax(small.apply(small.params, small.x)), np.float64)
    curvature = np.eye(4) * p[:, :, None] - p[:, :, None] * p[:, None, :]
    return jacobian, np.einsum("ncp,ncd,ndq->pq", jacobian, curvature, jacobian)


def test_whole_network_equals_laplace_torch(digits, x64):
    posterior = fit_laplace(digits.model, digits.variables, [(digits.x, digits.y)], progress=False)
    assert posterior.num_params == 1210
    trace = np.trace(posterior.precision()) - 1210
    np.testing.assert_allclose(trace, digits.net_trace, rtol=1e-10)
    for tau, expected in zip(digits.taus, digits.net_logev, strict=True):
        np.testing.assert_allclose(posterior.log_marginal_likelihood(tau), expected, rtol=1e-9)


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_member_follows_from_the_dense_formulas(small, subset):
    posterior = fit(small, subset, prior_precision=0.8)
    jacobian, ggn = dense_ggn(small, posterior)
    size = len(ggn)
    precision = ggn + 0.8 * np.eye(size)
    covariance = np.linalg.inv(precision)
    tolerance = 500 * EPS32 * np.abs(ggn).max()
    np.testing.assert_allclose(posterior.precision(), precision, atol=tolerance)
    np.testing.assert_allclose(posterior.covariance(), covariance, atol=tolerance / 0.8**2)
    np.testing.assert_allclose(posterior.variance(), np.diag(posterior.covariance()), rtol=1e-12)
    functional = np.einsum("ncp,pq,ndq->ncd", jacobian, covariance, jacobian)
    got = posterior.functional_covariance(small.x)
    np.testing.assert_allclose(got, functional, atol=tolerance * functional.max() / 0.8)
    np.testing.assert_allclose(
        posterior.functional_variance(small.x), np.einsum("ncc->nc", got), rtol=1e-12
    )
    log_det = np.linalg.slogdet(precision)[1]
    evidence = posterior.log_likelihood + 0.5 * (
        size * np.log(0.8) - 0.8 * posterior.mean @ posterior.mean - log_det
    )
    np.testing.assert_allclose(posterior.log_marginal_likelihood(), evidence, rtol=1e-5)


@pytest.mark.parametrize("subset", SUBSETS)
def test_diagonal_of_any_subset(small, subset):
    posterior = fit(small, subset, hessian_structure="diag", prior_precision=0.8)
    jacobian, ggn = dense_ggn(small, posterior)
    diagonal = np.diag(ggn) + 0.8
    np.testing.assert_allclose(posterior.precision(), np.diag(diagonal), rtol=500 * EPS32)
    functional = np.einsum("ncp,p,ndp->ncd", jacobian, 1 / diagonal, jacobian)
    np.testing.assert_allclose(
        posterior.functional_covariance(small.x), functional, rtol=1e-3, atol=1e-5
    )
    tree = posterior.sample(0, 2)
    assert ravel_pytree(tree)[0].size == 2 * posterior.num_params


@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_batches_and_their_order_do_not_matter(small, subset, structure):
    def split(sizes, order):
        ends = np.cumsum(sizes)
        x, y = small.x[order], small.y[order]
        return [(x[e - s : e], y[e - s : e]) for s, e in zip(sizes, ends, strict=True)]

    forward, backward = np.arange(12), np.arange(12)[::-1]
    whole = fit(small, subset, hessian_structure=structure)
    scale = np.abs(whole.precision()).max()
    for loader in (split([5, 5, 2], forward), split([3, 9], backward), split([1] * 12, backward)):
        other = fit(small, subset, loader, hessian_structure=structure)
        np.testing.assert_allclose(other.precision(), whole.precision(), atol=50 * EPS32 * scale)
        np.testing.assert_allclose(other.log_likelihood, whole.log_likelihood, rtol=50 * EPS32)
        assert other.num_data == 12


@pytest.mark.parametrize("subset", ["head", "all"])
def test_evidence_does_not_depend_on_the_names_of_classes(small, subset):
    order = np.array([2, 0, 3, 1])
    params = {
        "first": small.params["first"],
        "last": {"w": small.params["last"]["w"][:, order], "b": small.params["last"]["b"][order]},
    }
    plain = fit(small, subset)
    permuted = fit_laplace(
        small.apply,
        params,
        [(small.x, np.argsort(order)[small.y])],
        trainable=SUBSETS[subset],
        progress=False,
    )
    np.testing.assert_allclose(
        permuted.log_marginal_likelihood(), plain.log_marginal_likelihood(), rtol=100 * EPS32
    )
    np.testing.assert_allclose(
        permuted.predict(small.x), plain.predict(small.x)[:, order], atol=100 * EPS32
    )


def test_the_same_fit_twice_gives_the_same_bits(small):
    first, second = fit(small, "head"), fit(small, "head")
    np.testing.assert_array_equal(first.covariance(), second.covariance())
    np.testing.assert_array_equal(
        first.predict(small.x, "mc", seed=2), second.predict(small.x, "mc", seed=2)
    )


@pytest.mark.parametrize("subset", ["head", "all"])
def test_nothing_is_retraced(small, subset):
    traces = []

    def counted(params, x):
        traces.append(x.shape)
        return small.apply(params, x)

    loader = [
        (small.x[:5], small.y[:5]),
        (small.x[5:10], small.y[5:10]),
        (small.x[10:], small.y[10:]),
    ]

    def everything(params):
        posterior = fit_laplace(counted, params, loader, trainable=SUBSETS[subset], progress=False)
        posterior.predict(small.x)
        posterior.predict(small.x, "mc", n_samples=3)
        posterior.functional_covariance(small.x)
        return posterior

    everything(small.params)
    first = len(traces)
    assert first > 0
    posterior = everything(jax.tree.map(lambda leaf: leaf + 1, small.params))
    assert len(traces) == first
    posterior.predict(small.x[:11])  # in the same bucket as 12
    assert len(traces) == first


def test_batch_statistics_are_used_and_come_back_from_merge():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = False):
            x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
            return nn.Dense(3, name="head")(nn.Dropout(0.5, deterministic=not train)(x))

    x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    variables = Normalised().init(jax.random.key(0), x)
    variables["batch_stats"]["norm"]["mean"] = jnp.asarray([0.5, -0.5])
    posterior = fit_laplace(
        Normalised(), variables, [(x, np.arange(8) % 3)], trainable=last_only, progress=False
    )
    merged = posterior.merge(posterior.linearised.trainable)
    assert merged.keys() == {"params", "batch_stats"}
    np.testing.assert_allclose(
        Normalised().apply(merged, x), Normalised().apply(variables, x), rtol=1e-6
    )
    features = (x - np.array([0.5, -0.5])) / np.sqrt(1 + 1e-5)
    a = np.c_[features, np.ones(8)]
    logits = np.asarray(Normalised().apply(variables, x), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    bias = np.diag((p * (1 - p)).sum(axis=0)) - (p.T @ p) * (1 - np.eye(3))
    np.testing.assert_allclose(posterior.precision()[:3, :3], bias + np.eye(3), atol=1e-5)
    assert a.shape == (8, 3)


def test_inputs_may_be_a_tree(small):
    def model(params, inputs):
        return small.apply(params, inputs["left"] + inputs["right"])

    tree = {"left": small.x, "right": np.zeros_like(small.x)}
    posterior = fit_laplace(
        model, small.params, [(tree, small.y)], trainable=last_only, progress=False
    )
    np.testing.assert_array_equal(posterior.precision(), fit(small, "head").precision())
    assert posterior.predict(tree).shape == (12, 4)


@pytest.mark.parametrize("subset", ["head", "all"])
def test_inputs_come_in_pieces_from_a_loader(small, subset):
    posterior = fit(small, subset)
    loader = InputsLoader.from_array_inputs(small.x, batch_size=5)
    np.testing.assert_allclose(
        posterior.functional_covariance(loader), posterior.functional_covariance(small.x), rtol=1e-4
    )
    np.testing.assert_allclose(posterior.predict(loader), posterior.predict(small.x), rtol=1e-5)


def test_a_shuffled_loader_is_read_in_order_and_not_moved(small):
    loader = DataLoader.from_array_data((small.x, small.y), batch_size=5, shuffle=True, seed=1)
    twin = DataLoader.from_array_data((small.x, small.y), batch_size=5, shuffle=True, seed=1)
    first = fit(small, "head", loader)
    np.testing.assert_array_equal(first.covariance(), fit(small, "head", loader).covariance())
    for (_, got), (_, expected) in zip(loader, twin, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("subset", ["head", "all"])
def test_floating_dtypes(small, subset, dtype):
    with enable_x64(dtype == "float64"):
        kind = jnp.dtype(dtype)
        params = jax.tree.map(lambda leaf: np.asarray(leaf).astype(kind), small.params)
        posterior = fit_laplace(
            small.apply,
            params,
            [(small.x.astype(kind), small.y)],
            trainable=SUBSETS[subset],
            progress=False,
        )
        tree = posterior.sample(0, 1)
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {kind}
        probabilities = posterior.predict(small.x.astype(kind))
    eps = float(jnp.finfo(kind).eps)
    expected = fit(small, subset)
    np.testing.assert_allclose(
        posterior.precision(), expected.precision(), atol=100 * max(eps, EPS32)
    )
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=20 * max(eps, EPS32))


@pytest.mark.parametrize("layout", ["read-only", "strided", "fortran", "jax", "list"])
@pytest.mark.parametrize("subset", ["head", "all"])
def test_memory_layouts(small, subset, layout):
    x, y = small.x.copy(), small.y.copy()
    if layout == "read-only":
        x.flags.writeable = y.flags.writeable = False
    elif layout == "strided":
        x, y = np.repeat(x, 3, axis=0)[::3], np.repeat(y, 2)[::2]
    elif layout == "fortran":
        x = np.asfortranarray(x)
    elif layout == "jax":
        x, y = jnp.asarray(x), jnp.asarray(y)
    else:
        y = y.tolist()
    got = fit(small, subset, [(x, y)])
    np.testing.assert_array_equal(got.precision(), fit(small, subset).precision())
    if layout != "list":
        np.testing.assert_array_equal(got.predict(x), fit(small, subset).predict(small.x))


def test_an_empty_batch_among_others_adds_nothing(small):
    loader = [(small.x[:0], small.y[:0]), (small.x, small.y), (small.x[:0], small.y[:0])]
    posterior = fit(small, "head", loader)
    assert posterior.num_data == 12
    np.testing.assert_array_equal(posterior.precision(), fit(small, "head").precision())


def test_a_dense_curvature_that_is_not_kept_gives_the_same_posterior(small):
    kept, dropped = fit(small, keep_curvature=True), fit(small, keep_curvature=False)
    np.testing.assert_allclose(dropped.precision(), kept.precision(), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(dropped.covariance(), kept.covariance())
    assert dropped.curvature is None


def test_repr_says_what_it_is(small):
    assert repr(fit(small, "head")) == (
        "Laplace(num_params=16, num_data=12, likelihood='categorical', hessian_structure='full')"
    )


THREADS = """
import hashlib, numpy as np
from hoarfrost import _core
g = np.random.default_rng(0)
head = _core.HeadCurvature("softmax", 5, 70)
dense = _core.FullCurvature(350)
for _ in range(3):
    head.add(g.standard_normal((900, 70)), g.standard_normal((900, 5)))
    dense.add_rows(g.standard_normal((900, 350)))
digest = hashlib.sha256()
for factor in (head.factor(np.ones(350)), dense.factor(np.ones(350))):
    for array in (factor.covariance(np.arange(350)), factor.variance(), factor.sample(3, 17)):
        digest.update(array.tobytes())
    digest.update(np.float64(factor.log_det()).tobytes())
print(_core.num_threads(), digest.hexdigest())
"""


def test_any_number_of_threads_gives_the_same_bits():
    runs = {
        threads: subprocess.Popen(
            [sys.executable, "-c", THREADS],
            env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in (1, 2, 3)
    }
    said = {threads: run.communicate(timeout=60)[0].split() for threads, run in runs.items()}
    assert {threads: int(words[0]) for threads, words in said.items()} == {1: 1, 2: 2, 3: 3}
    assert len({words[1] for words in said.values()}) == 1
