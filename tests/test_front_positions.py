"""`ProbClassifier` and `ProbRegressor` of outputs with positions: training and posterior."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from front_problems import (
    ADAM,
    COUNTED,
    LABELS,
    NUMBERS,
    PIXEL_LABELS,
    PIXELS,
    PIXELS_COUNTED,
    STILL,
    C,
    D,
    DataLoader,
    Each,
    N,
    T,
    X,
    as_targets,
    classifier,
    config,
    counted_positions,
    head_only,
    log_prior,
    log_softmax,
    regressor,
    rows,
)
from token_problems import EPS32, assert_near

import hoarfrost
from hoarfrost.errors import (
    BatchShapeError,
    DataError,
    InvalidArgumentError,
    NonFiniteError,
    ShapeError,
)
from hoarfrost.metric import accuracy
from hoarfrost.prob_model import ProbClassifier

WAYS = pytest.mark.parametrize("way", ["all", "label", "mask"])
KINDS = {
    "tokens": (X, LABELS, COUNTED),
    "pixels": (PIXELS, PIXEL_LABELS, PIXELS_COUNTED),
}
PROBLEMS = pytest.mark.parametrize("kind", list(KINDS))


def sees(predictions, targets):
    """A metric that is the number of points it sees."""
    assert predictions.shape == targets.shape
    return float(len(targets))


@PROBLEMS
@WAYS
@pytest.mark.parametrize("batch_size", [1, 3, N])
def test_the_loss_is_the_closed_form_over_what_counts(kind, way, batch_size):
    x, y, counted = KINDS[kind]
    targets, options = as_targets(y, counted, way)
    loader = DataLoader.from_array_data((x, targets), batch_size=batch_size)
    model = classifier(laplace=False, **options)
    status = model.train(
        loader, loader, fit_config=config(STILL, n_epochs=2, metrics=(accuracy, sees))
    )["fit_status"]
    params = model.posterior.state.get().params
    outputs = model.model.apply(params["model"], x)
    chosen = np.take_along_axis(log_softmax(outputs), y[..., None], axis=-1)[..., 0]
    kept = counted_positions(way, counted)
    joint = chosen[kept].sum() + log_prior(params)
    # Every step of the epoch stays where it is, so that batches add up to all of the data.
    slack = 64 * EPS32 * (abs(joint) + np.abs(chosen).sum())
    np.testing.assert_allclose(status["loss"], -joint, atol=slack)
    np.testing.assert_allclose(status["val_loss"], -joint, atol=slack)
    hits = (np.argmax(outputs, axis=-1) == y)[kept].mean()
    for prefix in ("", "val_"):
        np.testing.assert_allclose(status[f"{prefix}accuracy"], hits, rtol=1e-12)
        assert (status[f"{prefix}sees"] == kept.sum()).all()


@PROBLEMS
@WAYS
def test_map_and_laplace_agree_on_the_joint_density(kind, way):
    x, y, counted = KINDS[kind]
    targets, options = as_targets(y, counted, way)
    loader = DataLoader.from_array_data((x, targets), batch_size=3)
    model = classifier(**options)
    status = model.train(
        loader,
        fit_config=config(freeze_fun=head_only),
        map_fit_config=config(STILL, n_epochs=1),
    )["fit_status"]
    laplace = model.posterior.laplace
    params = model.posterior.state.get().params
    assert laplace.num_data == status["laplace"]["num_data"]
    assert laplace.num_data == counted_positions(way, counted).sum()
    joint = laplace.log_likelihood + log_prior(params)
    np.testing.assert_allclose(status["map"]["loss"][0], -joint, rtol=256 * EPS32)
    # The posterior of the same parameters, made without the front.
    other = hoarfrost.fit_laplace(
        model.model, params["model"], loader, trainable=head_only, progress=False, **options
    )
    assert laplace.log_marginal_likelihood() == other.log_marginal_likelihood()
    np.testing.assert_array_equal(laplace.precision(), other.precision())


@WAYS
def test_training_on_tokens_is_training_on_their_points(way):
    targets, options = as_targets(LABELS, COUNTED, way)
    kept = counted_positions(way, COUNTED)
    tokens, points = classifier(laplace=False, **options), classifier(laplace=False)
    one = [
        tokens.train(DataLoader.from_array_data((X, targets)), fit_config=config())["fit_status"],
        points.train(DataLoader.from_array_data((X[kept], LABELS[kept])), fit_config=config())[
            "fit_status"
        ],
    ]
    np.testing.assert_allclose(one[0]["loss"], one[1]["loss"], rtol=1e-5)
    got, expected = (m.posterior.state.get().params for m in (tokens, points))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected)


@pytest.mark.parametrize("shape", ["(B, T, D)", "(B, T) of one number"])
@pytest.mark.parametrize("way", ["all", "mask"])
def test_the_loss_of_a_regressor(shape, way):
    y = NUMBERS if shape == "(B, T, D)" else NUMBERS[..., 0]
    width = D if y.ndim == 3 else 1
    targets, _ = as_targets(y, COUNTED, way)
    loader = DataLoader.from_array_data((X, targets), batch_size=3)
    model = regressor(width=width)
    shapes = []

    def sees(predictions, targets):
        shapes.append((predictions.shape, targets.shape))
        return 0.0

    status = model.train(
        loader,
        fit_config=config(freeze_fun=head_only),
        map_fit_config=config(STILL, n_epochs=1, metrics=(sees,)),
    )["fit_status"]
    params = model.posterior.state.get().params
    mean = np.asarray(model.model.apply(params["model"], X), np.float64)
    log_var = np.asarray(model.lik_log_var.apply(params["lik_log_var"], X), np.float64)
    wide = y.reshape(mean.shape)
    terms = (wide - mean) ** 2 * np.exp(-log_var) + log_var + math.log(2 * math.pi)
    kept = counted_positions(way, COUNTED)
    joint = -terms.sum(axis=-1)[kept].sum() / 2 + log_prior(params)
    np.testing.assert_allclose(status["map"]["loss"][0], -joint, rtol=256 * EPS32)
    laplace = model.posterior.laplace
    np.testing.assert_allclose(laplace.log_likelihood + log_prior(params), joint, rtol=256 * EPS32)
    assert laplace.num_data == kept.sum()
    assert shapes == [((kept.sum(), width), (kept.sum(), width))]


def test_a_batch_of_padding_alone_takes_no_step():
    counted = COUNTED.copy()
    counted[3:6] = False
    rest = np.r_[0:3, 6:N]
    steps = []
    for data in ((X, (LABELS, counted)), (X[rest], (LABELS[rest], counted[rest]))):
        model = classifier(laplace=False)
        model.train(DataLoader.from_array_data(data, batch_size=3), fit_config=config())
        steps.append(model.posterior.state.get())
    assert int(steps[0].step) == int(steps[1].step) == 6
    expected = steps[1].params
    jax.tree.map(np.testing.assert_array_equal, steps[0].params, expected)


@pytest.mark.parametrize("holder", ["train", "validation", "calibration"])
@pytest.mark.parametrize("way", ["label", "mask"])
def test_nothing_that_counts_is_an_error_before_the_work(holder, way):
    targets, options = as_targets(LABELS, np.zeros_like(COUNTED), way)
    nothing = DataLoader.from_array_data((X, targets), batch_size=3)
    targets, _ = as_targets(LABELS, COUNTED, way)
    some = DataLoader.from_array_data((X, targets), batch_size=3)
    model = classifier(**options)
    loaders = [
        nothing if holder == name else some for name in ("train", "validation", "calibration")
    ]
    argument = {"train": "train", "validation": "val", "calibration": "calib"}[holder]
    with pytest.raises(DataError, match=f"no target of {argument}_data_loader counts"):
        model.train(*loaders, fit_config=config(), map_fit_config=config())
    assert model.posterior.state.is_empty


class Stream:
    """Batches that are made anew for each pass, and how often that was."""

    def __init__(self, batches):
        self.batches, self.passes = batches, 0

    def __iter__(self):
        self.passes += 1
        yield from self.batches


def in_batches(x, y, size=3):
    index = range(0, len(x), size)
    return [(x[i : i + size], jax.tree.map(lambda a, i=i: a[i : i + size], y)) for i in index]


@WAYS
def test_counting_the_points_of_a_stream_costs_no_pass_that_its_size_would_not(way):
    targets, options = as_targets(LABELS, COUNTED, way)
    tokens, points = Stream(in_batches(X, targets)), Stream(in_batches(rows(X), rows(LABELS)))
    classifier(laplace=False, **options).train(tokens, fit_config=config(n_epochs=2))
    classifier(laplace=False).train(points, fit_config=config(n_epochs=2))
    assert tokens.passes == points.passes


@pytest.mark.parametrize("kind", ["list", "generator function", "shuffled", "jax", "big-endian"])
@pytest.mark.parametrize("way", ["label", "mask"])
def test_any_loader_with_masks(kind, way):
    targets, options = as_targets(LABELS, COUNTED, way)
    expected = classifier(laplace=False, **options)
    data = DataLoader.from_array_data((X, targets), batch_size=N)
    expected.train(data, fit_config=config())
    batches = in_batches(X, targets, N)
    loaders = {
        "list": batches,
        "generator function": DataLoader.from_callable_iterable(lambda: iter(batches)),
        "shuffled": DataLoader.from_array_data((X, targets), batch_size=N, shuffle=True),
        "jax": jax.tree.map(jnp.asarray, batches),
        "big-endian": [
            (x.astype(">f4"), jax.tree.map(lambda a: a.astype(a.dtype.newbyteorder(">")), y))
            for x, y in batches
        ],
    }
    model = classifier(laplace=False, **options)
    model.train(loaders[kind], fit_config=config())
    got, wanted = (m.posterior.state.get().params for m in (model, expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, wanted)


def test_early_stopping_by_what_counts():
    targets, options = as_targets(LABELS, COUNTED, "label")
    train = DataLoader.from_array_data((X, targets), batch_size=4)
    # What does not count would say the opposite.
    val = DataLoader.from_array_data((X, np.where(COUNTED, LABELS, -100)), batch_size=2)
    model = classifier(laplace=False, **options)
    stopping = config(n_epochs=40, early_stopping_patience=2, early_stopping_monitor="val_loss")
    status = model.train(train, val, fit_config=stopping)["fit_status"]
    best = int(np.argmin(status["val_loss"]))
    params = model.posterior.state.get().params
    outputs = model.model.apply(params["model"], X)
    chosen = np.take_along_axis(log_softmax(outputs), LABELS[..., None], axis=-1)[..., 0]
    joint = chosen[COUNTED].sum() + log_prior(params)
    np.testing.assert_allclose(status["val_loss"][best], -joint, rtol=256 * EPS32)


def test_sequences_of_any_length_train_where_the_network_takes_them():
    short, long = X[:3, :2], np.concatenate([X[3:], X[3:, :2]], axis=1)
    y = [LABELS[:3, :2], np.concatenate([LABELS[3:], LABELS[3:, :2]], axis=1)]
    ragged = [(short, y[0]), (long, y[1])]
    model = classifier(laplace=False)
    status = model.train(ragged, ragged, fit_config=config(STILL, n_epochs=1))["fit_status"]
    params = model.posterior.state.get().params
    joint = log_prior(params)
    for x, labels in ragged:
        outputs = model.model.apply(params["model"], x)
        joint += np.take_along_axis(log_softmax(outputs), labels[..., None], axis=-1).sum()
    np.testing.assert_allclose(status["loss"], -joint, rtol=256 * EPS32)
    np.testing.assert_allclose(status["val_loss"], -joint, rtol=256 * EPS32)
    assert model.predictive.mean([short]).shape == (3, 2, C)
    assert model.predictive.log_prob([ragged[1]]).shape == (4, 7)
    with pytest.raises(ShapeError, match=r"batch 1 have shape \[\(7, 4\)\].*ask for each length"):
        model.predictive.mean([short, long])
    with pytest.raises(ShapeError, match=r"batch 1 have shape \[\(7, 4\)\].*ask for each length"):
        model.predictive.log_prob(ragged)


@pytest.mark.parametrize("validates", [False, True])
def test_a_laplace_posterior_of_sequences_of_any_length(validates):
    ragged = [(X[:3, :2], LABELS[:3, :2]), (X[3:], np.where(COUNTED[3:], LABELS[3:], -100))]
    model = ProbClassifier(Each(), ignored_label=-100)
    status = model.train(
        ragged,
        ragged if validates else None,
        fit_config=config(freeze_fun=head_only),
        map_fit_config=config(),
    )["fit_status"]["laplace"]
    assert status["num_data"] == 6 + COUNTED[3:].sum()
    assert status["tuned"] == ("validation" if validates else "evidence")


def test_a_network_that_does_not_take_another_length_says_so():
    class OfOneLength(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(C, name="head")(x + self.param("at", nn.initializers.zeros, (T, 4)))

    model = ProbClassifier(OfOneLength())
    batches = [(X, LABELS), (X[:, :2], LABELS[:, :2])]
    with pytest.raises(ShapeError, match="cannot take inputs of shape"):
        model.train(batches, map_fit_config=config())
    assert model.posterior.state.is_empty


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (LABELS[:, 0], ShapeError, r"\(7,\).*positions \(5,\).*\(7, 5\)"),
        (LABELS[:, :3], ShapeError, r"\(7, 3\).*positions \(5,\)"),
        (LABELS[..., None], ShapeError, r"\(35, 1\).*targets have shape \(7, 5, 1\)"),
        (np.eye(C)[LABELS], ShapeError, r"targets have shape \(7, 5, 3\)"),
        (np.where(COUNTED, LABELS, -100), InvalidArgumentError, "label -100"),
        (np.where(COUNTED, LABELS, np.nan), NonFiniteError, r"nan at index \(0, \d\)"),
        ((LABELS, COUNTED[:, 0]), ShapeError, r"mask of batch 0 has shape \(7,\).*\(7, 5\)"),
        ((LABELS, COUNTED[:3]), BatchShapeError, "different length"),
        ((LABELS, COUNTED.astype(int)), DataError, "mask.* has dtype int"),
    ],
    ids=[
        "one an example",
        "too short",
        "a column",
        "one-hot",
        "an ignored label that is not given",
        "nan",
        "mask of examples",
        "short mask",
        "mask of numbers",
    ],
)
@pytest.mark.parametrize("holder", ["train", "validation", "calibration"])
def test_wrong_targets_are_typed_errors_before_the_work(targets, error, message, holder):
    model = classifier()
    right = DataLoader.from_array_data((X, LABELS), batch_size=N)
    loaders = [right, right, right]

    def train():
        wrong = DataLoader.from_array_data((X, targets), batch_size=N)
        loaders[["train", "validation", "calibration"].index(holder)] = wrong
        model.train(*loaders, fit_config=config(), map_fit_config=config())

    with pytest.raises(error, match=message):
        train()
    assert model.posterior.state.is_empty


@pytest.mark.parametrize("label", ["-100", 1.5, np.nan, 2**63, [1], True])
def test_a_wrong_ignored_label(label):
    with pytest.raises(InvalidArgumentError, match="ignored_label"):
        ProbClassifier(hoarfrost.model.MLP(C), ignored_label=label)


def test_points_without_positions_have_masks_too():
    y, kept = np.where(COUNTED, LABELS, -100).reshape(-1), COUNTED.reshape(-1)
    models = []
    for data, options in (
        ((rows(X), y), {"ignored_label": -100}),
        ((rows(X), (y, kept)), {}),
        ((X[COUNTED], LABELS[COUNTED]), {}),
    ):
        model = classifier(**options)
        model.train(
            DataLoader.from_array_data(data, batch_size=N * T),
            fit_config=config(freeze_fun=head_only),
            map_fit_config=config(ADAM),
        )
        models.append(model.posterior.laplace)
    assert [m.num_data for m in models] == [kept.sum()] * 3
    assert_near(models[0].precision(), models[2].precision())
    np.testing.assert_array_equal(models[0].precision(), models[1].precision())


def test_one_program_a_shape_whatever_counts():
    traced = []

    class Watched(nn.Module):
        @nn.compact
        def __call__(self, x):
            traced.append(x.shape)
            return nn.Dense(C, name="head")(x)

    module, counts = Watched(), []
    rng = np.random.default_rng(0)
    for _ in range(3):
        counted = rng.random(COUNTED.shape) < 0.5
        loader = DataLoader.from_array_data((X, (LABELS, counted)), batch_size=3, shuffle=True)
        model = ProbClassifier(module)
        model.train(
            loader,
            loader,
            fit_config=config(freeze_fun=head_only),
            map_fit_config=config(ADAM, n_epochs=3, metrics=(accuracy,)),
        )
        model.predictive.mean(loader.to_inputs_loader())
        model.predictive.log_prob(loader)
        counts.append(len(traced))
    # The initialiser of each model, and nothing else.
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


class Normed(nn.Module):
    """Statistics of a batch, which no padding may enter."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(6)(x))
        return nn.Dense(C, name="head")(nn.tanh(x))


def test_a_network_of_pixels_with_running_statistics():
    targets, options = as_targets(PIXEL_LABELS, PIXELS_COUNTED, "label")
    loader = DataLoader.from_array_data((PIXELS, targets), batch_size=3)
    model = ProbClassifier(Normed(), **options)
    status = model.train(
        loader, loader, fit_config=config(freeze_fun=head_only), map_fit_config=config()
    )["fit_status"]
    assert status["laplace"]["num_data"] == PIXELS_COUNTED.sum()
    mean = model.posterior.state.get().mutable["model"]["batch_stats"]["norm"]["mean"]
    assert np.abs(mean).max() > 1e-3
    assert np.isfinite(status["map"]["val_loss"]).all()


def test_a_network_in_half_precision():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(C, name="head", dtype=jnp.bfloat16)(x)

    model = ProbClassifier(Half())
    loader = DataLoader.from_array_data((X, (LABELS, COUNTED)), batch_size=3)
    status = model.train(
        loader, fit_config=config(freeze_fun=head_only), map_fit_config=config(STILL, n_epochs=1)
    )["fit_status"]
    params = model.posterior.state.get().params
    outputs = np.asarray(model.model.apply(params["model"], X), np.float32)
    chosen = np.take_along_axis(log_softmax(outputs), LABELS[..., None], axis=-1)[..., 0]
    joint = chosen[COUNTED].sum() + log_prior(params)
    np.testing.assert_allclose(status["map"]["loss"][0], -joint, rtol=256 * EPS32)


def test_other_positions_in_training_are_an_error():
    class Drops(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(C)(x[:, ::2] if train else x)

    model = ProbClassifier(Drops())
    with pytest.raises(ShapeError, match=r"outputs have shape \(7, 3, 3\) in training"):
        model.train([(X, LABELS)], map_fit_config=config())
    assert model.posterior.state.is_empty
