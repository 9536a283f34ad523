"""The shared layer of outputs with positions is found by computing, and checked."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from token_problems import (
    LABELS,
    PARAMS,
    RNG,
    TARGETS,
    C,
    N,
    T,
    X,
    assert_near,
    fit,
    head_only,
    rows,
    token_net,
)

import hoarfrost
from hoarfrost.curvature import HeadPass
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import (
    ShapeError,
    StructureError,
)
from hoarfrost.likelihood import HeteroscedasticGaussian


class Encoder(nn.Module):
    """One block of attention: positions of an example see each other, its head does not."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8)(tokens["ids"])
        mask = nn.make_attention_mask(tokens["mask"], tokens["mask"])
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(num_heads=2)(x, mask=mask))
        x = nn.LayerNorm()(x + nn.Dense(8)(nn.gelu(nn.Dense(16)(x))))
        return nn.Dense(C, name="head")(x)


class Segmenter(nn.Module):
    """Pixels: a convolution, and a head that is a Dense layer or one over 1 x 1 pixels."""

    conv_head: bool = False

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(6, (3, 3))(images))
        if self.conv_head:
            return nn.Conv(C, (1, 1), name="head")(x)
        return nn.Dense(C, name="head")(x)


def encoder():
    lengths = RNG.integers(2, T + 1, N)
    mask = np.arange(T) < lengths[:, None]
    tokens = {"ids": RNG.integers(0, 11, (N, T)), "mask": mask}
    return Encoder(), tokens, np.where(mask, LABELS, -100)


def segmenter(conv_head):
    images = RNG.standard_normal((3, 4, 5, 2)).astype(np.float32)
    labels = RNG.integers(0, C, (3, 4, 5))
    labels[1, 2:] = -100
    return Segmenter(conv_head), images, labels


@pytest.fixture(
    scope="module",
    params=[encoder, functools.partial(segmenter, False), functools.partial(segmenter, True)],
    ids=["tokens", "pixels", "pixels by a 1x1 convolution"],
)
def network(request):
    module, inputs, labels = request.param()
    variables = module.init(jax.random.PRNGKey(0), inputs)
    loader = DataLoader.from_array_data((inputs, labels), batch_size=2)
    posterior = hoarfrost.fit_laplace(
        module, variables, loader, trainable=head_only, ignored_label=-100, progress=False
    )
    return SimpleNamespace(
        module=module,
        inputs=inputs,
        labels=labels,
        variables=variables,
        loader=loader,
        posterior=posterior,
    )


def dense(network):
    """Jacobian ``(B, *positions, C, P)`` and outputs, by `jax.jacobian`."""
    params = network.variables["params"]
    flat, unravel = ravel_pytree({"head": params["head"]})

    def outputs_of(head):
        return network.module.apply({"params": {**params, **unravel(head)}}, network.inputs)

    return (
        np.asarray(jax.jacobian(outputs_of)(flat), np.float64),
        np.asarray(outputs_of(flat), np.float64),
    )


def test_a_shared_head_equals_dense_algebra(network):
    posterior = network.posterior
    assert isinstance(posterior.linearised.head, HeadPass)
    jacobian, outputs = dense(network)
    kept = network.labels != -100
    p = np.exp(outputs - np.log(np.exp(outputs).sum(axis=-1, keepdims=True)))
    curvature = np.eye(C) * p[..., None] - p[..., None] * p[..., None, :]
    expected = np.eye(posterior.num_params) + np.einsum(
        "ncp,ncd,ndq->pq", jacobian[kept], curvature[kept], jacobian[kept]
    )
    assert posterior.num_data == kept.sum()
    assert_near(posterior.precision(), expected)
    covariance = np.einsum("...cp,pq,...dq->...cd", jacobian, np.linalg.inv(expected), jacobian)
    assert_near(posterior.functional_covariance(network.inputs), covariance)
    probit = outputs / np.sqrt(1 + np.pi / 8 * np.einsum("...cc->...c", covariance))
    probit = np.exp(probit) / np.exp(probit).sum(axis=-1, keepdims=True)
    assert_near(posterior.predict(network.inputs), probit)
    assert_near(
        posterior.log_prob(network.loader, "probit"),
        np.log(np.take_along_axis(probit[kept], network.labels[kept][:, None], 1)[:, 0]),
    )
    log_likelihood = np.log(p[kept][np.arange(kept.sum()), network.labels[kept]]).sum()
    theta = posterior.mean
    evidence = log_likelihood - theta @ theta / 2 - np.linalg.slogdet(expected)[1] / 2
    assert_near(posterior.log_marginal_likelihood(), evidence)


def test_rows_of_a_jacobian_equal_the_head(network, monkeypatch):
    monkeypatch.setattr("hoarfrost.laplace.linearise.find_head", lambda *_, **__: None)
    general = hoarfrost.fit_laplace(
        network.module,
        network.variables,
        network.loader,
        trainable=head_only,
        ignored_label=-100,
        progress=False,
    )
    assert general.linearised.head is None
    assert_near(general.precision(), network.posterior.precision())
    assert_near(
        general.functional_covariance(network.inputs),
        network.posterior.functional_covariance(network.inputs),
    )


def test_the_head_is_found_by_computing(network):
    posterior = hoarfrost.fit_laplace(
        network.module,
        network.variables,
        network.loader,
        trainable="last_layer",
        ignored_label=-100,
        progress=False,
    )
    np.testing.assert_array_equal(posterior.precision(), network.posterior.precision())


def test_a_head_that_positions_do_not_share_alike_has_rows():
    """A scale that differs between positions is no plain Dense layer."""
    scale = jnp.linspace(0.5, 2.0, T)[:, None]

    def scaled(params, x):
        return token_net(params, x) * scale

    posterior = hoarfrost.fit_laplace(
        scaled, PARAMS, [(X, LABELS)], trainable=head_only, progress=False
    )
    assert posterior.linearised.head is None
    expected = np.eye(posterior.num_params)
    flat, unravel = ravel_pytree({"head": PARAMS["head"]})
    jacobian = jax.jacobian(lambda h: scaled({**PARAMS, **unravel(h)}, X))(flat)
    jacobian = np.asarray(jacobian, np.float64).reshape(-1, C, len(flat))
    p = np.asarray(jax.nn.softmax(scaled(PARAMS, X)), np.float64).reshape(-1, C)
    curvature = np.eye(C) * p[..., None] - p[..., None] * p[..., None, :]
    expected += np.einsum("ncp,ncd,ndq->pq", jacobian, curvature, jacobian)
    assert_near(posterior.precision(), expected)


def test_heads_of_one_leaf_and_of_transposed_kernels():
    hidden = np.tanh(X @ PARAMS["body"])
    bias, kernel = PARAMS["head"]["b"], PARAMS["head"]["w"]
    whole = fit(X, LABELS)

    def bias_alone(params, x):
        return x @ kernel + params["b"]

    def kernel_alone(params, x):
        return jnp.einsum("btd,cd->btc", x, params["w"]) + bias

    for apply, params, chosen in (
        (bias_alone, {"b": bias}, slice(0, C)),
        (kernel_alone, {"w": kernel.T}, slice(C, None)),
    ):
        posterior = hoarfrost.fit_laplace(apply, params, [(hidden, LABELS)], progress=False)
        assert posterior.linearised.head is not None
        expected = whole.precision()[chosen, chosen]
        if "w" in params:
            order = np.arange(6 * C).reshape(6, C).T.ravel()
            expected = expected[np.ix_(order, order)]
        assert_near(posterior.precision(), expected)


def test_a_likelihood_of_two_outputs_a_target():
    """Means and log-variances; no head of the core is for them."""

    def apply(params, x):
        return x @ params["w"]

    params = {"w": PARAMS["body"][:, :2]}
    y = TARGETS["gaussian"][..., :1]
    tokens, points = (
        hoarfrost.fit_laplace(
            apply, params, [pair], likelihood=HeteroscedasticGaussian(), progress=False
        )
        for pair in ((X, y), (rows(X), rows(y)))
    )
    assert_near(tokens.precision(), points.precision())
    for mine, theirs in zip(tokens.predict(X), points.predict(rows(X)), strict=True):
        assert_near(mine, theirs.reshape(N, T, 1))
    params = {"w": PARAMS["body"][:, :3]}
    with pytest.raises(ShapeError, match=r"outputs have shape \(7, 5, 3\): each"):
        hoarfrost.fit_laplace(
            apply, params, [(X, y)], likelihood=HeteroscedasticGaussian(), progress=False
        )


@pytest.mark.parametrize(
    ("inside", "outside"), [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16)]
)
def test_half_precision_heads(inside, outside):
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(C, name="head", dtype=inside)(x).astype(outside)

    variables = Half().init(jax.random.PRNGKey(0), X)
    tokens, points = (
        hoarfrost.fit_laplace(Half(), variables, [pair], progress=False)
        for pair in ((X, LABELS), (rows(X), LABELS.reshape(-1)))
    )
    assert tokens.linearised.head is not None and points.linearised.head is not None
    # Inputs have the rounding of bfloat16 at most, once or squared.
    expected = points.precision()
    slack = 2 * 2.0**-8 * np.abs(expected).max()
    np.testing.assert_allclose(tokens.precision(), expected, rtol=2 * 2.0**-8, atol=slack)
    assert tokens.predict(X).shape == (N, T, C)


def test_in_double_precision(x64):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
    x = X.astype(np.float64)
    tokens, points = (
        hoarfrost.fit_laplace(token_net, params, [pair], trainable=head_only, progress=False)
        for pair in ((x, LABELS), (rows(x), LABELS.reshape(-1)))
    )
    np.testing.assert_allclose(tokens.precision(), points.precision(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        tokens.predict(x), points.predict(rows(x)).reshape(N, T, C), rtol=1e-12
    )


def test_a_batch_without_the_structure_is_said():
    def capped(params, x):
        return jnp.where(jnp.abs(x).max() > 50, 2.0, 1.0) * token_net(params, x)

    later = X.copy()
    later[:, 1, 0] = 100
    with pytest.raises(StructureError, match="batch 1 does not have the last-layer structure"):
        hoarfrost.fit_laplace(
            capped, PARAMS, [(X, LABELS), (later, LABELS)], trainable=head_only, progress=False
        )


def test_sequences_of_another_length_can_be_predicted():
    posterior, points = fit(X, LABELS), fit(rows(X), LABELS.reshape(-1))
    longer = np.concatenate([X, X[:, ::-1]], axis=1)
    for inputs in (longer, X[:, :2], X[:0:-1, :1]):
        shape = inputs.shape[:2]
        assert_near(posterior.predict(inputs), points.predict(rows(inputs)).reshape(*shape, C))
        assert posterior.predict(inputs, "nn").shape == (*shape, C)
        assert posterior.functional_covariance(inputs).shape == (*shape, C, C)
        assert posterior.functional_covariance(inputs[:1], joint=True).shape == (
            *(1, shape[1], C, 1, shape[1], C),
        )
        labels = np.zeros(shape, int)
        assert posterior.log_prob([(inputs, labels)]).shape == shape
    loader = InputsLoader.from_array_inputs(longer, batch_size=2)
    assert_near(posterior.functional_variance(loader), posterior.functional_variance(longer))


def test_the_front_takes_positions_as_the_function_does():
    model = hoarfrost.prob_model.ProbClassifier(model=Encoder(), ignored_label=-100)
    _, tokens, labels = encoder()
    loader = DataLoader.from_array_data((tokens, labels), batch_size=7)
    quiet = hoarfrost.prob_model.FitMonitor(verbose=False)
    model.train(
        loader,
        map_fit_config=hoarfrost.prob_model.FitConfig(
            hoarfrost.prob_model.FitOptimizer(n_epochs=2), monitor=quiet
        ),
        fit_config=hoarfrost.prob_model.FitConfig(
            hoarfrost.prob_model.FitOptimizer(
                freeze_fun=lambda path, v: "trainable" if "head" in path else "frozen"
            ),
            monitor=quiet,
        ),
    )
    assert isinstance(model.posterior.laplace.linearised.head, HeadPass)
    assert model.posterior.laplace.num_data == (labels != -100).sum()
    assert model.predictive.mean(loader.to_inputs_loader()).shape == (7, 5, 3)
