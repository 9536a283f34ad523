"""Outputs with positions: tokens ``(B, T, C)`` and pixels ``(B, H, W, C)``, each a data point."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

import hoarfrost
from hoarfrost.curvature import HeadPass
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.errors import (
    DataError,
    InvalidArgumentError,
    NonFiniteError,
    ShapeError,
    StructureError,
)
from hoarfrost.likelihood import Gaussian, HeteroscedasticGaussian

EPS32 = float(np.finfo(np.float32).eps)

N, T, D, C = 7, 5, 4, 3


def token_net(params, x):
    """The same at every position."""
    return jnp.tanh(x @ params["body"]) @ params["head"]["w"] + params["head"]["b"]


def head_only(path, value):
    return "head" in path


RNG = np.random.default_rng(0)
PARAMS = {
    "body": RNG.standard_normal((D, 6)).astype(np.float32),
    "head": {
        "b": RNG.standard_normal(C).astype(np.float32),
        "w": RNG.standard_normal((6, C)).astype(np.float32),
    },
}
X = RNG.standard_normal((N, T, D)).astype(np.float32)
LABELS = RNG.integers(0, C, (N, T))
COUNTED = RNG.random((N, T)) < 0.6
COUNTED[2] = False  # an example of padding alone

TARGETS = {
    "categorical": LABELS,
    "bernoulli": RNG.integers(0, 2, (N, T, C)),
    "poisson": RNG.poisson(2.0, (N, T, C)),
    "gaussian": RNG.standard_normal((N, T, C)).astype(np.float32),
}
# A piece holds two of the seven examples, and the last one is padded.
AT_ONCE = 2 * T


def fit(x, y, likelihood="categorical", **options):
    options = {"trainable": head_only, "batch_size": 4, **options}
    loader = DataLoader.from_array_data((x, y), batch_size=options.pop("batch_size"))
    return hoarfrost.fit_laplace(
        token_net, PARAMS, loader, likelihood=likelihood, progress=False, **options
    )


def rows(array):
    return array.reshape(-1, *array.shape[2:])


def assert_near(got, expected):
    # Sums over 35 points, of single precision.
    slack = 64 * EPS32 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=64 * EPS32, atol=slack)


@pytest.fixture(params=["head", "every leaf"])
def trainable(request):
    return head_only if request.param == "head" else None


@pytest.mark.parametrize("structure", ["full", "diag"])
@pytest.mark.parametrize("likelihood", TARGETS)
def test_positions_are_points_of_their_own(likelihood, structure, trainable):
    options = {"hessian_structure": structure, "trainable": trainable}
    y = TARGETS[likelihood]
    tokens = fit(X, y, likelihood, **options)
    points = fit(rows(X), rows(y), likelihood, batch_size=4 * T, **options)
    assert tokens.num_data == points.num_data == N * T
    assert (tokens.linearised.head is None) == (trainable is None)
    assert_near(tokens.precision(), points.precision())
    assert_near(tokens.log_marginal_likelihood(), points.log_marginal_likelihood())
    for tau in (0.3, 4.0):
        assert_near(tokens.log_marginal_likelihood(tau), points.log_marginal_likelihood(tau))
    assert_near(
        tokens.functional_covariance(X), points.functional_covariance(rows(X)).reshape(N, T, C, C)
    )
    assert_near(tokens.functional_variance(X), points.functional_variance(rows(X)).reshape(N, T, C))
    joint = points.functional_covariance(rows(X[:3]), joint=True)
    assert_near(tokens.functional_covariance(X[:3], joint=True), joint.reshape(3, T, C, 3, T, C))


@pytest.mark.parametrize("likelihood", TARGETS)
def test_predictions_have_the_shape_of_the_outputs(likelihood):
    y = TARGETS[likelihood]
    tokens, points = fit(X, y, likelihood), fit(rows(X), rows(y), likelihood)
    links = {
        "categorical": ["probit", "mc", "bridge", "nn"],
        "bernoulli": ["probit", "mc", "nn"],
        "poisson": [None, "nn"],
        "gaussian": [None, "nn"],
    }
    for link in links[likelihood]:
        got, expected = (
            posterior.predict(inputs, link)
            for posterior, inputs in ((tokens, X), (points, rows(X)))
        )
        for mine, theirs in zip(
            *((x if isinstance(x, tuple) else (x,)) for x in (got, expected)), strict=True
        ):
            assert mine.shape == (N, T, C)
            # A draw's rounding: the precision's rounding times its condition.
            np.testing.assert_allclose(mine, theirs.reshape(N, T, C), rtol=1e-3, atol=1e-4)
        densities = tokens.log_prob([(X, y)], link or "nn")
        assert densities.shape == (N, T)
        expected = points.log_prob([(rows(X), rows(y))], link or "nn")
        np.testing.assert_allclose(densities, expected.reshape(N, T), rtol=1e-3, atol=1e-3)


def test_numbers_have_variances_and_quantiles_at_every_position():
    y = TARGETS["gaussian"]
    tokens = fit(X, y, Gaussian((0.5, 1.0, 2.0)))
    points = fit(rows(X), rows(y), Gaussian((0.5, 1.0, 2.0)))
    found, expected = tokens.predict_regression(X), points.predict_regression(rows(X))
    for name in ("mean", "epistemic_variance", "noise_variance", "std"):
        assert_near(getattr(found, name), getattr(expected, name).reshape(N, T, C))
    assert_near(found.quantile(0.1), expected.quantile(0.1).reshape(N, T, C))
    assert_near(found.quantile([0.1, 0.7]), expected.quantile([0.1, 0.7]).reshape(2, N, T, C))
    for got, end in zip(found.credible_interval(), expected.credible_interval(), strict=True):
        assert_near(got, end.reshape(N, T, C))


def test_a_single_logit_gives_no_and_yes_at_every_position():
    params = {"w": PARAMS["body"][:, :1]}
    posterior = hoarfrost.fit_laplace(
        lambda p, x: x @ p["w"],
        params,
        [(X, LABELS % 2)],
        likelihood="bernoulli",
        progress=False,
    )
    proba = posterior.predict_proba(X)
    assert proba.shape == (N, T, 2)
    np.testing.assert_allclose(proba.sum(axis=-1), 1, rtol=4 * EPS32)
    np.testing.assert_array_equal(proba[..., 1:], posterior.predict(X))


@pytest.mark.parametrize("tune", ["optimize_prior_precision", "optimize_hyperparameters"])
def test_tuning_is_that_of_the_points(tune):
    y = TARGETS["gaussian"]
    tokens, points = fit(X, y, Gaussian(1.0)), fit(rows(X), rows(y), Gaussian(1.0))
    np.testing.assert_allclose(
        np.ravel(getattr(tokens, tune)()), np.ravel(getattr(points, tune)()), rtol=1e-4
    )
    assert tokens.tuning is not None


def test_tuning_on_held_out_data_is_that_of_the_points():
    generator = np.random.default_rng(2)
    # Classes of a network that is less sure than this one, which a finite variance makes up for.
    logits = np.asarray(token_net(PARAMS, X[::-1])) / 2 + generator.gumbel(size=(N, T, C))
    held = np.where(COUNTED, logits.argmax(axis=-1), -100)
    tokens = fit(X, LABELS, ignored_label=-100)
    points = fit(rows(X), rows(LABELS))
    own = tokens.optimize_on([(X[::-1], held)])
    kept = COUNTED.reshape(-1)
    alone = points.optimize_on([(rows(X[::-1])[kept], held.reshape(-1)[kept])])
    np.testing.assert_allclose(own, alone, rtol=1e-4)


def masked(y, way):
    """Targets of which some do not count, as a user would say it; the options with them."""
    if way == "label":
        return np.where(COUNTED, y, -100), {"ignored_label": -100}
    if way == "class":  # 0 stands for padding and is a class, too
        return np.where(COUNTED, y, 0), {"ignored_label": 0}
    # What does not count may hold anything.
    y = np.where(COUNTED.reshape(N, T, *(1 for _ in y.shape[2:])), y, 10**6).astype(y.dtype)
    return (y, COUNTED), {}


@pytest.mark.parametrize(
    ("likelihood", "way"),
    [("categorical", "label"), ("categorical", "class"), *((name, "mask") for name in TARGETS)],
)
@pytest.mark.parametrize("structure", ["full", "diag"])
def test_what_is_masked_is_not_there(likelihood, way, structure, trainable, monkeypatch):
    monkeypatch.setattr("hoarfrost.curvature.head.MAX_POINTS", AT_ONCE)
    monkeypatch.setattr("hoarfrost.laplace.linearised.MAX_POINTS", AT_ONCE)
    y, options = masked(TARGETS[likelihood], way)
    kept = COUNTED
    if way == "class":
        kept = COUNTED & (LABELS != 0)
    options |= {"hessian_structure": structure, "trainable": trainable}
    tokens = fit(X, y, likelihood, **options)
    options.pop("ignored_label", None)
    points = fit(X[kept], TARGETS[likelihood][kept], likelihood, **options)
    assert tokens.num_data == points.num_data == kept.sum()
    assert_near(tokens.precision(), points.precision())
    assert_near(tokens.log_likelihood, points.log_likelihood)
    assert_near(tokens.log_marginal_likelihood(), points.log_marginal_likelihood())
    # Predictions are for all positions.
    assert_near(tokens.functional_variance(X)[kept], points.functional_variance(X[kept]))
    density = points.log_prob([(X[kept], TARGETS[likelihood][kept])])
    assert density.shape == (kept.sum(),)
    for link in (None, "nn"):
        density = points.log_prob([(X[kept], TARGETS[likelihood][kept])], link)
        got = tokens.log_prob(DataLoader.from_array_data((X, y), batch_size=3), link)
        np.testing.assert_allclose(got, density, rtol=1e-3, atol=1e-3)


def test_points_without_positions_may_be_masked_too():
    y = np.where(COUNTED, LABELS, -100).reshape(-1)
    kept = COUNTED.reshape(-1)
    points = fit(rows(X)[kept], y[kept])
    for got in (
        fit(rows(X), y, ignored_label=-100),
        fit(rows(X), (y, kept)),
        fit(rows(X), (y.astype(np.float32), kept), ignored_label=np.int8(-100)),
    ):
        assert got.num_data == kept.sum()
        assert_near(got.precision(), points.precision())
        assert got.log_prob([(rows(X), (y, kept))]).shape == (kept.sum(),)


def test_masks_come_from_any_loader():
    y = np.where(COUNTED, LABELS, -7)
    expected = fit(X, (y, COUNTED)).precision()
    batches = [(X[i : i + 2], (y[i : i + 2], COUNTED[i : i + 2])) for i in range(0, N, 2)]
    as_jax = jax.tree.map(jnp.asarray, batches)
    loaders = (batches, as_jax, DataLoader.from_iterable(batches))
    shuffled = DataLoader.from_array_data((X, (y, COUNTED)), batch_size=2, shuffle=True)
    for loader in (*loaders, shuffled):
        for trainable in (head_only, "last_layer"):
            posterior = hoarfrost.fit_laplace(
                token_net, PARAMS, loader, trainable=trainable, progress=False
            )
            assert_near(posterior.precision(), expected)


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
    monkeypatch.setattr("hoarfrost.laplace.linearised.find_head", lambda *_, **__: None)
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


def test_no_more_than_a_piece_of_positions_is_in_memory(monkeypatch):
    monkeypatch.setattr("hoarfrost.curvature.head.MAX_POINTS", AT_ONCE)
    monkeypatch.setattr("hoarfrost.laplace.linearised.MAX_POINTS", AT_ONCE)
    monkeypatch.setattr("hoarfrost.predictive.evaluate._POINTS_AT_ONCE", AT_ONCE)
    seen = []

    def watched(params, x):
        seen.append(x.shape[0])
        return token_net(params, x)

    loader = DataLoader.from_array_data((X, LABELS))
    posterior = hoarfrost.fit_laplace(watched, PARAMS, loader, trainable=head_only, progress=False)
    run = posterior.linearised.fitting_pass()
    assert run.max_points == 2
    result = run(X[:2], 2)
    assert result.outputs.shape == (AT_ONCE, C) and result.block.shape == (AT_ONCE, 7)
    for link in ("probit", "mc", "nn"):
        assert posterior.predict(X, link).shape == (N, T, C)
    whole = fit(X, LABELS)
    monkeypatch.undo()
    assert_near(whole.precision(), fit(X, LABELS).precision())
    # Jacobian rows, too.
    monkeypatch.setattr("hoarfrost.curvature.jacobian.CHUNK_BYTES", 2 * T * C * 45 * 4)
    general = fit(X, LABELS, trainable=None)
    assert general.linearised.fitting_pass().max_points == 2
    monkeypatch.undo()
    assert_near(general.precision(), fit(X, LABELS, trainable=None).precision())


def test_one_program_a_shape():
    traced, counts = [], []

    def watched(params, x):
        traced.append(x.shape)
        return token_net(params, x)

    for labels in (LABELS, (LABELS, COUNTED), (LABELS, ~COUNTED)):
        loader = DataLoader.from_array_data((X, labels), batch_size=3)
        posterior = hoarfrost.fit_laplace(
            watched, PARAMS, loader, trainable=head_only, progress=False
        )
        posterior.predict(X)
        posterior.functional_covariance(X)
        counts.append(len(traced))
    assert counts[0] == counts[-1] > 0


def test_the_plan_counts_positions():
    plan = hoarfrost.plan(token_net, PARAMS, X, trainable=head_only)
    flat = hoarfrost.plan(token_net, PARAMS, rows(X), trainable=head_only)
    assert plan.head == "softmax" and plan.num_params == 21
    assert plan.passes == flat.passes


@pytest.mark.parametrize(
    ("targets", "options", "error", "message"),
    [
        (LABELS[:, 0], {}, ShapeError, r"shape \(7,\).*positions \(5,\).*\(7, 5\)"),
        (LABELS[:, :4], {}, ShapeError, r"shape \(7, 4\).*\(7, 5\)"),
        (LABELS[..., None], {}, ShapeError, r"targets have shape \(7, 5, 1\): each"),
        (LABELS, {"likelihood": "gaussian"}, ShapeError, r"targets have shape \(7, 5\): each"),
        (TARGETS["gaussian"][..., :2], {"likelihood": "gaussian"}, ShapeError, r"\(7, 5, 2\)"),
        (np.where(COUNTED, LABELS, 3), {}, InvalidArgumentError, r"label 3.*0\.\.2"),
        (np.where(COUNTED, LABELS, -100), {}, InvalidArgumentError, "label -100"),
        (
            np.where(np.arange(N * T).reshape(N, T, 1) == 8, np.nan, TARGETS["gaussian"]),
            {"likelihood": "gaussian"},
            NonFiniteError,
            r"nan at index \(1, 3, 0\)",
        ),
        ((LABELS, COUNTED[:, 0]), {}, ShapeError, r"mask of batch 0 has shape \(7,\).*\(7, 5\)"),
        ((LABELS, COUNTED.astype(int)), {}, DataError, "dtype int64.*boolean"),
        ((LABELS, ~COUNTED & COUNTED), {}, DataError, "no target of data_loader counts"),
        (np.full_like(LABELS, -1), {"ignored_label": -1}, DataError, "no target"),
        (LABELS, {"ignored_label": "pad"}, InvalidArgumentError, "ignored_label is 'pad'"),
        (LABELS, {"ignored_label": 0.5}, InvalidArgumentError, "ignored_label is 0.5"),
        (LABELS, {"ignored_label": 10**400}, InvalidArgumentError, "ignored_label is"),
        (LABELS, {"ignored_label": True}, InvalidArgumentError, "ignored_label is True"),
        (
            TARGETS["gaussian"],
            {"ignored_label": 1, "likelihood": "gaussian"},
            InvalidArgumentError,
            r"no labels; give them as pairs \(targets, mask\)",
        ),
        (
            np.where(np.arange(C) == 1, -100, TARGETS["bernoulli"]),
            {"ignored_label": -100, "likelihood": "bernoulli"},
            InvalidArgumentError,
            "-100 beside others",
        ),
    ],
)
def test_what_does_not_fit_is_said(targets, options, error, message):
    with pytest.raises(error, match=message):
        fit(X, targets, batch_size=None, **options)


def test_later_batches_are_checked():
    batches = [(X[:4], LABELS[:4]), (X[4:], LABELS[4:, :3])]
    with pytest.raises(ShapeError, match="batch 1 have shape"):
        hoarfrost.fit_laplace(token_net, PARAMS, batches, trainable=head_only, progress=False)
    batches = [(X[:4], (LABELS[:4], COUNTED[:4])), (X[4:], LABELS[4:])]
    with pytest.raises(DataError, match=r"batch 1 .* without a mask"):
        hoarfrost.fit_laplace(token_net, PARAMS, batches, trainable=head_only, progress=False)


def test_questions_that_do_not_fit_are_said():
    posterior = fit(X, LABELS)
    with pytest.raises(ShapeError, match=r"outputs have shape \(35, 3\)"):
        posterior.predict(rows(X))
    with pytest.raises(ShapeError, match=r"outputs have shape \(7, 5, 1, 3\)"):
        posterior.predict(X[:, :, None])
    with pytest.raises(DataError, match="no target counts"):
        posterior.log_prob([(X, (LABELS, ~COUNTED & COUNTED))])
    with pytest.raises(DataError, match="no target counts"):
        posterior.log_prob([(X, (LABELS, ~COUNTED & COUNTED))], "nn")
    flat = fit(rows(X), LABELS.reshape(-1))
    for link in ("probit", "nn"):
        with pytest.raises(ShapeError, match=r"outputs have shape"):
            flat.predict(X, link)


@pytest.mark.parametrize("form", ["probit", "covariance", "samples"])
def test_what_is_served_has_positions(form, trainable):
    posterior = fit(X, LABELS, trainable=trainable)
    arrays, served = posterior.to_jax(form, inputs=X, n_samples=50)
    assert served.largest_difference < 1e-4
    longer = np.concatenate([X, X[:, ::-1]], axis=1)
    got = jax.jit(served)(arrays, posterior.merge(), longer)
    if form == "probit":
        np.testing.assert_allclose(got, posterior.predict(longer), rtol=1e-4, atol=1e-5)
    elif form == "covariance":
        expected = posterior.functional_covariance(longer)
        np.testing.assert_allclose(got[1], expected, rtol=1e-3, atol=1e-4 * expected.max())
        assert got[0].shape == (N, 2 * T, C)
    else:
        points = fit(rows(X), LABELS.reshape(-1), trainable=trainable)
        arrays, served = points.to_jax(form, n_samples=50)
        expected = served(arrays, points.merge(), rows(longer)).reshape(N, 2 * T, C)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_one_exported_program_for_any_number_of_examples(trainable):
    export = pytest.importorskip("jax.export")
    posterior = fit(X, LABELS, trainable=trainable)
    (batch,) = export.symbolic_shape("b")
    for form in ("probit", "samples", "covariance"):
        arrays, served = posterior.to_jax(form, n_samples=5)
        spec = jax.ShapeDtypeStruct((batch, T, D), jnp.float32)
        program = export.export(jax.jit(served))(arrays, posterior.merge(), spec)
        for count in (1, 4):
            got = jax.tree.leaves(program.call(arrays, posterior.merge(), X[:count]))
            expected = jax.tree.leaves(served(arrays, posterior.merge(), X[:count]))
            for ours, theirs in zip(got, expected, strict=True):
                assert ours.shape[:2] == (count, T)
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_front_says_that_it_takes_points_only():
    model = hoarfrost.prob_model.ProbClassifier(model=Encoder())
    _, tokens, labels = encoder()
    loader = DataLoader.from_array_data((tokens, np.maximum(labels, 0)), batch_size=7)
    with pytest.raises(
        ShapeError, match=r"outputs have shape \(7, 5, 3\).*for hoarfrost.fit_laplace"
    ):
        model.train(loader, map_fit_config=hoarfrost.prob_model.FitConfig())
