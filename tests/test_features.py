"""Features of a last layer in the place of the data: the same posteriors, and no network is run."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import token_problems as tokens
from feature_cases import EPS, X_NEW, Y_NEW, C, Counted, D, H, N, Net, X, Y, loader, near, variables
from flax import nnx

import hoarfrost
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.data.features import FeatureLoader
from hoarfrost.errors import (
    DataError,
    HoarfrostError,
    InvalidArgumentError,
    MixedPointsError,
    NonFiniteError,
    SelectionError,
    StructureError,
)

features = functools.partial(hoarfrost.features, progress=False)
fit = functools.partial(hoarfrost.fit_laplace, trainable="last_layer", progress=False)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(D, H, rngs=rngs)
        self.drop = nnx.Dropout(0.4, rngs=rngs)
        self.head = nnx.Linear(H, C, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(jnp.tanh(self.hidden(x))))


def of_function(params, x):
    return jnp.tanh(x @ params["body"]) @ params["head"].T


def with_skip(params, x):
    """Something frozen is added to the layer's outputs."""
    return jnp.tanh(x @ params["body"]) @ params["head"].T + jnp.sin(x[:, :C]) * params["scale"]


FUNCTION = {
    "body": np.random.default_rng(1).standard_normal((D, H)).astype(np.float32),
    "head": np.random.default_rng(2).standard_normal((C, H)).astype(np.float32),
}
SKIP = FUNCTION | {"scale": np.float32(0.7)}
HEAD = ["head"]

MODELS = {
    "linen": (Net(), variables(), "last_layer"),
    "linen with statistics": (Net(norm=True), variables(Net(norm=True)), "last_layer"),
    "linen, dropout": (Net(dropout=0.5), variables(), "last_layer"),
    "nnx, dropout": (NnxNet(nnx.Rngs(0)), None, "last_layer"),
    "function": (of_function, FUNCTION, "last_layer"),
    "kernel alone": (Net(), variables(), ["head/kernel"]),
    "bias alone": (Net(), variables(), ["head/bias"]),
    "skip connection": (with_skip, SKIP, HEAD),
}
# Targets are noise, which predicts nothing.
at_a_bound = pytest.mark.filterwarnings("ignore:the .* that predicts the held-out data best")
of_models = pytest.mark.parametrize("case", MODELS)


@of_models
@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_the_posterior_is_that_of_the_data(case, structure):
    model, params, trainable = MODELS[case]
    options = {"trainable": trainable, "hessian_structure": structure}
    store = features(model, params, loader(), trainable)
    new = features(model, params, loader(X_NEW, Y_NEW), trainable)
    ours, known = fit(model, params, store, **options), fit(model, params, loader(), **options)
    assert ours.num_data == N and ours.num_params == known.num_params
    near(ours.log_marginal_likelihood(), known.log_marginal_likelihood())
    near(ours.variance(), known.variance())
    if structure == "full":
        near(ours.precision(), known.precision())
        near(
            ours.functional_covariance(new, joint=True),
            known.functional_covariance(X_NEW, joint=True),
        )
    for asked in (X_NEW, new, new.to_inputs_loader()):
        near(ours.predict(asked), known.predict(X_NEW))
        near(ours.predict(asked, link="nn", n_samples=3), known.predict(X_NEW, "nn", 3))
        near(ours.functional_variance(asked), known.functional_variance(X_NEW))
    near(ours.log_prob(new), known.log_prob(loader(X_NEW, Y_NEW)))
    near(known.log_prob(new), known.log_prob(loader(X_NEW, Y_NEW)))
    assert jax.tree.structure(ours.merge()) == jax.tree.structure(known.merge())


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "poisson", "gaussian"])
def test_every_likelihood_takes_them(likelihood):
    targets = {
        "categorical": Y,
        "bernoulli": np.eye(C)[Y],
        "poisson": 2 * np.eye(C, dtype=int)[Y],
        "gaussian": X[:, :C],
    }[likelihood]
    data = loader(X, targets)
    store = features(Net(), variables(), data)
    ours = fit(Net(), variables(), store, likelihood=likelihood)
    known = fit(Net(), variables(), data, likelihood=likelihood)
    near(ours.log_marginal_likelihood(), known.log_marginal_likelihood())
    near(ours.precision(), known.precision())


@at_a_bound
def test_tuning_on_held_out_data_is_the_same():
    model, params, _ = MODELS["linen"]
    train, held = loader(), loader(X_NEW, Y_NEW)
    ours, known = fit(model, params, features(model, params, train)), fit(model, params, train)
    bounds = {"low": 1e-2, "high": 1e6}
    near(
        np.log(ours.optimize_on(features(model, params, held), **bounds)),
        np.log(known.optimize_on(held, **bounds)),
    )
    near(
        np.log(ours.optimize_on(features(model, params, held), ("prior_precision", "temperature"))),
        np.log(known.optimize_on(held, ("prior_precision", "temperature"))),
    )
    near(ours.optimize_prior_precision(), known.optimize_prior_precision(), 1e4)


def test_more_data_and_an_earlier_posterior_come_from_features():
    model, params, _ = MODELS["linen"]
    train, more = loader(), loader(X_NEW, Y_NEW)
    ours, known = fit(model, params, features(model, params, train)), fit(model, params, train)
    ours.update(features(model, params, more), progress=False)
    known.update(more, progress=False)
    assert ours.num_data == known.num_data == N + len(Y_NEW)
    near(ours.precision(), known.precision())
    near(ours.log_marginal_likelihood(), known.log_marginal_likelihood())
    following = fit(model, params, features(model, params, more), prior=ours)
    near(following.precision(), fit(model, params, more, prior=known).precision())


@pytest.mark.parametrize("masked", [False, True], ids=["all", "mask"])
@pytest.mark.parametrize("batch_size", [None, 3], ids=["one batch", "batches"])
def test_positions_keep_their_axes_and_masks(masked, batch_size):
    targets = (tokens.LABELS, tokens.COUNTED) if masked else tokens.LABELS
    data = DataLoader.from_array_data((tokens.X, targets), batch_size=batch_size)
    store = features(tokens.token_net, tokens.PARAMS, data)
    assert store.input_shape == (tokens.T, 6)
    ours = fit(tokens.token_net, tokens.PARAMS, store)
    known = fit(tokens.token_net, tokens.PARAMS, data)
    assert ours.num_data == known.num_data
    near(ours.log_marginal_likelihood(), known.log_marginal_likelihood())
    near(ours.precision(), known.precision())
    near(ours.log_prob(store), known.log_prob(data))
    # A network over tokens may be asked about sequences of another length.
    near(ours.predict(tokens.X[:, :3]), known.predict(tokens.X[:, :3]))
    short = DataLoader.from_array_data((tokens.X[:, :3], tokens.LABELS[:, :3]))
    near(
        ours.predict(features(tokens.token_net, tokens.PARAMS, short)),
        known.predict(tokens.X[:, :3]),
    )


def test_the_ignored_label_is_ignored():
    labels = np.where(tokens.COUNTED, tokens.LABELS, -100)
    data = DataLoader.from_array_data((tokens.X, labels), batch_size=4)
    store = features(tokens.token_net, tokens.PARAMS, data)
    ours = fit(tokens.token_net, tokens.PARAMS, store, ignored_label=-100)
    known = fit(tokens.token_net, tokens.PARAMS, data, ignored_label=-100)
    assert ours.num_data == known.num_data == tokens.COUNTED.sum()
    near(ours.log_marginal_likelihood(), known.log_marginal_likelihood())


@at_a_bound
def test_the_frozen_part_runs_over_each_point_once():
    net = Counted()
    store = features(net.apply, net.params, loader(), ["kernel", "bias"])
    seen = net.points
    assert seen >= N
    posterior = fit(net.apply, net.params, store, trainable=["kernel", "bias"])
    posterior.log_prob(store)
    posterior.predict(store)
    posterior.optimize_on(store, low=1e-3, high=1e3, grid_size=3)
    assert net.points == seen
    posterior.predict(X_NEW)
    assert net.points > seen


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "big endian", "jax", "list of batches"])
def test_inputs_of_every_kind(dtype):
    x = {
        "bfloat16": lambda: jnp.asarray(X, jnp.bfloat16),
        "float16": lambda: X.astype(np.float16),
        "big endian": lambda: X.astype(">f4"),
        "jax": lambda: jnp.asarray(X),
        "list of batches": lambda: X,
    }[dtype]()
    data = [(x[:20], Y[:20]), (x[20:50], Y[20:50]), (x[50:], Y[50:])]
    if dtype != "list of batches":
        data = loader(x)
    store = features(Net(), variables(), data)
    known = fit(Net(), variables(), data)
    near(fit(Net(), variables(), store).precision(), known.precision())
    expected = [len(y) for _, y in data]
    assert [len(y) for _, y in store] == expected and store.size == N


def test_a_bfloat16_network_gives_its_own_dtype():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), FUNCTION)
    x = jnp.asarray(X, jnp.bfloat16)
    store = features(of_function, params, loader(x))
    assert next(iter(store))[0].dtype == np.float32
    ours, known = fit(of_function, params, store), fit(of_function, params, loader(x))
    # Eight bits, which the two add up in another order.
    np.testing.assert_allclose(ours.precision(), known.precision(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
def test_a_loader_of_arrays_gives_the_same_batches_in_the_same_orders(shuffle):
    data = loader(X, np.arange(N), shuffle=shuffle, seed=3)
    store = features(Net(), variables(), data)
    inputs, targets = store.to_array_data()
    assert np.array_equal(targets, np.arange(N)) and len(store) == len(data)
    for _ in range(2):
        for (ours, labels), (_, known) in zip(store, data, strict=True):
            assert np.array_equal(labels, known)
            assert np.array_equal(ours, inputs[known])


def test_a_part_of_a_loader_has_its_own_orders():
    data = loader(X, np.arange(N), shuffle=True, seed=3).split(40)[1]
    store = features(Net(), variables(), data)
    whole = features(Net(), variables(), loader()).to_array_inputs()
    for epoch in range(2):
        for (ours, labels), (_, known) in zip(store.epoch(epoch), data.epoch(epoch), strict=True):
            assert np.array_equal(labels, known)
            near(ours, whole[known])


@pytest.mark.parametrize("case", ["linen with statistics", "nnx, dropout", "skip connection"])
def test_a_posterior_from_features_is_saved_like_any_other(case, tmp_path):
    model, params, trainable = MODELS[case]
    posterior = fit(
        model, params, features(model, params, loader(), trainable), trainable=trainable
    )
    posterior.save(tmp_path / "posterior")
    loaded = hoarfrost.load_laplace(tmp_path / "posterior", model=model, params=params)
    assert np.array_equal(loaded.predict(X_NEW), posterior.predict(X_NEW))
    store = features(model, params, loader(X_NEW, Y_NEW), trainable)
    assert np.array_equal(loaded.log_prob(store), posterior.log_prob(store))


def test_parts_of_the_loader_know_their_network():
    params = variables()
    store = features(Net(), params, loader(shuffle=True))
    posterior = fit(Net(), params, store)
    first, second = store.split(20)
    for part in (first, second, store.sample(0, 9), store.chop(5)):
        assert isinstance(part, FeatureLoader)
        assert np.isfinite(posterior.log_prob(part)).all()
        fit(Net(), params, part)
    assert (first.size, second.size) == (20, N - 20)


@pytest.mark.parametrize("sizes", [(20, 30, 3), (5, 7, 41), (N,)], ids=str)
def test_a_stream_keeps_its_batches(sizes):
    ends = np.cumsum(sizes)
    batches = [(X[e - s : e], Y[e - s : e]) for s, e in zip(sizes, ends, strict=True)]
    store = features(Net(), variables(), DataLoader.from_callable_iterable(lambda: iter(batches)))
    assert [len(targets) for _, targets in store] == list(sizes)
    assert [len(targets) for _, targets in store] == list(sizes)
    near(store.to_array_inputs(), features(Net(), variables(), loader()).to_array_inputs())
    for (ours, targets), (_, known) in zip(store, batches, strict=True):
        assert isinstance(ours, np.ndarray) and np.array_equal(targets, known)


def test_training_the_layer_leaves_features_true():
    params = variables()
    store = features(Net(), params, loader())
    moved = jax.tree.map(lambda leaf: leaf, params)
    moved["params"]["head"] = jax.tree.map(lambda leaf: 2 * leaf + 1, params["params"]["head"])
    near(fit(Net(), moved, store).precision(), fit(Net(), moved, loader()).precision())


def changed(params, layer):
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 1.001 if layer in str(path) else leaf, params
    )


OTHERS = {
    "frozen parameter": lambda: (Net(), changed(variables(), "hidden")),
    "statistics": lambda: (Net(norm=True), changed(variables(Net(norm=True)), "mean")),
    "activation": lambda: (
        lambda params, x: jnp.sinh(x @ params["body"]) @ params["head"].T,
        FUNCTION,
    ),
    "closed-over number": lambda: (scaled(1.5), FUNCTION),
    "fewer leaves": lambda: (lambda params, x: x @ params["w"], {"w": np.ones((H, C), np.float32)}),
}
ORIGINALS = {
    "frozen parameter": MODELS["linen"][:2],
    "statistics": MODELS["linen with statistics"][:2],
    "activation": (of_function, FUNCTION),
    "closed-over number": (of_function, FUNCTION),
    "fewer leaves": (of_function, FUNCTION),
}


def test_a_closure_that_changes_makes_another_network():
    factor = np.ones(H, np.float32)

    def closure(params, x):
        return jnp.tanh(x @ params["body"] * factor) @ params["head"].T

    store = features(closure, FUNCTION, loader())
    posterior = fit(closure, FUNCTION, store)
    posterior.log_prob(store)
    factor *= 2
    with pytest.raises(InvalidArgumentError, match="of another network"):
        posterior.log_prob(store)


def scaled(by):
    factor = np.full(H, by, np.float32)
    return lambda params, x: jnp.tanh(x @ params["body"] * factor) @ params["head"].T


@pytest.mark.parametrize("case", OTHERS)
def test_features_of_another_network_are_refused(case):
    store = features(*ORIGINALS[case], loader())
    model, params = OTHERS[case]()
    with pytest.raises(InvalidArgumentError, match="data_loader holds features of"):
        fit(model, params, store)
    if case != "fewer leaves":
        other = fit(model, params, loader())
        for call in (other.log_prob, other.predict, other.functional_variance):
            with pytest.raises(InvalidArgumentError, match="holds features of another network"):
                call(store)


@pytest.mark.parametrize("trainable", [None, ["hidden"], ["head/bias"]], ids=str)
def test_features_of_another_layer_are_refused(trainable):
    store = features(Net(), variables(), loader())
    with pytest.raises(InvalidArgumentError, match="of another layer"):
        fit(Net(), variables(), store, trainable=trainable)


def test_features_are_told_by_their_class_and_not_by_their_shape():
    """A hidden layer as wide as the inputs: features would go through the network unnoticed."""
    params = {"body": np.eye(D, dtype=np.float32), "head": np.ones((C, D), np.float32)}
    store = features(of_function, params, loader())
    assert store.input_shape == (D,)
    posterior = fit(of_function, params, loader())
    near(posterior.predict(store), posterior.predict(X))
    refused = {
        "plan": lambda: hoarfrost.plan(of_function, params, store.to_inputs_loader()),
        "describe": lambda: hoarfrost.describe(of_function, params, inputs=store),
        "to_jax": lambda: posterior.to_jax(inputs=store.to_inputs_loader()),
        "wrapped": lambda: DataLoader(store),
        "inputs": lambda: InputsLoader.from_data_loader(store),
        "features": lambda: features(of_function, params, store),
        "by hand": lambda: FeatureLoader([(X, Y)]),
        "from arrays": lambda: FeatureLoader.from_array_data((X, Y)),
    }
    for call in refused.values():
        with pytest.raises(InvalidArgumentError):
            call()


WRONG = {
    "not a layer": (SelectionError, lambda: features(Net(), variables(), loader(), ["hidden"])),
    "all": (SelectionError, lambda: features(Net(), variables(), loader(), None)),
    "no layer": (
        SelectionError,
        lambda: features(lambda p, x: jnp.exp(x @ p["w"]), {"w": np.ones((D, C))}, loader()),
    ),
    "empty": (DataError, lambda: features(Net(), variables(), [])),
    "one-shot": (DataError, lambda: features(Net(), variables(), iter([(X, Y)]))),
    "an array": (InvalidArgumentError, lambda: features(Net(), variables(), X)),
    "inputs alone": (
        InvalidArgumentError,
        lambda: features(Net(), variables(), loader().to_inputs_loader()),
    ),
    "NaN": (
        NonFiniteError,
        lambda: features(
            Net(), variables(), loader(np.where(np.arange(N)[:, None] == 40, np.nan, X))
        ),
    ),
    "targets change": (
        DataError,
        lambda: features(Net(), variables(), [(X, Y), (X, Y.astype(float))]),
    ),
    "width changes": (DataError, lambda: features(Net(), variables(), [(X, Y), (X[:, :2], Y)])),
    "points mix": (
        MixedPointsError,
        lambda: features(
            lambda p, x: (x - x.mean(0)) @ p["w"],
            {"w": np.ones((D, C), np.float32)},
            loader(),
            None,
        ),
    ),
    "progress": (InvalidArgumentError, lambda: hoarfrost.features(Net(), {}, [], progress=2)),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_a_typed_error(case):
    kind, call = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, HoarfrostError)


def later_offset(params, x):
    """What is added shows only at points with a large first number."""
    return jnp.tanh(x @ params["body"]) @ params["head"].T + jnp.maximum(x[:, :1] - 50, 0)


def not_linear(params, x):
    """A Jacobian like a layer's where the kernel is zero, and another one elsewhere."""
    kernel = params["head"].T
    return jnp.tanh(x @ params["body"]) @ kernel + jnp.sum(kernel**2)


def test_an_offset_that_shows_later_is_an_error():
    x = X.copy()
    x[40, 0] = 60
    with pytest.raises(StructureError, match="added to the layer's outputs"):
        features(later_offset, FUNCTION, loader(x), HEAD)


def test_a_layer_at_zero_alone_is_none():
    zero = FUNCTION | {"head": np.zeros((C, H), np.float32)}
    fit(not_linear, zero, loader(), trainable=HEAD)  # its Jacobian is a layer's there
    with pytest.raises(SelectionError):
        features(not_linear, zero, loader(), HEAD)


def test_there_is_one_compilation_however_many_batches(monkeypatch):
    params = variables()
    features(Net(), params, loader())
    from hoarfrost.curvature import head

    before = head._head_program.shared._cache_size()
    features(Net(), params, loader())
    features(Net(), jax.tree.map(lambda leaf: leaf + 1, params), loader(X + 1))
    assert head._head_program.shared._cache_size() == before


def test_strict_promotion(strict):
    store = features(Net(), variables(), loader())
    near(fit(Net(), variables(), store).precision(), fit(Net(), variables(), loader()).precision())


def test_unknown_sizes_are_stored_without_a_second_copy():
    stream = DataLoader.from_callable_iterable(lambda: iter([(X[:30], Y[:30]), (X[30:], Y[30:])]))
    known = features(Net(), variables(), loader()).to_array_inputs()
    store = features(Net(), variables(), stream)
    near(store.to_array_inputs(), known)
    near(store.sample(0, 8).to_array_inputs(), known[np.random.default_rng(0).choice(N, 8)])
    assert store.num_unique_labels == C and EPS > 0
