"""What `ProbClassifier` and `ProbRegressor` predict for outputs with positions."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from front_problems import (
    COUNTED,
    LABELS,
    NUMBERS,
    PIXEL_LABELS,
    PIXELS,
    C,
    D,
    DataLoader,
    N,
    T,
    X,
    as_targets,
    classifier,
    config,
    counted_positions,
    head_only,
    regressor,
    rows,
)

from hoarfrost.data import InputsLoader
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.metric import accuracy
from hoarfrost.model import TransformerEncoder
from hoarfrost.prob_model import (
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
)

ADAM = optax.adam(0.05)
OPTIONS = {"n_posterior_samples": 4, "rng": 3}
SAMPLES = {"n_target_samples": 4, "rng": 3}


def flat(array, positions):
    """Rows in place of examples and positions, which end before the last axis if that is C."""
    return array.reshape(-1, *array.shape[1 + len(positions) :])


@functools.cache
def fitted(what, laplace, freeze=True):
    """A model over positions, and the same posterior of a model over points."""
    x, y = (PIXELS, PIXEL_LABELS) if what == "pixels" else (X, LABELS)
    make = classifier
    if what == "numbers":
        y, make = NUMBERS, regressor
    positions = y.shape[1:3] if what == "pixels" else y.shape[1:2]
    tokens, points = make(laplace), make(laplace)
    data = DataLoader.from_array_data((x, y), batch_size=N)
    flat_data = DataLoader.from_array_data((flat(x, positions), flat(y, positions)))
    fit_config = config(freeze_fun=head_only if freeze else None)
    if not laplace:
        tokens.train(data, fit_config=config())
        points.posterior.state.put(tokens.posterior.state.get())
        return tokens, points, positions, x, y
    tokens.train(data, fit_config=fit_config, map_fit_config=config())
    points.posterior.state.put(tokens.posterior.state.get())
    again = config(freeze_fun=head_only if freeze else None, again=True)
    points.train(flat_data, fit_config=again)
    return tokens, points, positions, x, y


FITTED = pytest.mark.parametrize(
    "problem",
    [
        ("tokens", True),
        ("tokens", True, False),
        ("tokens", False),
        ("pixels", True),
        ("numbers", True),
        ("numbers", False),
    ],
    ids=["tokens", "tokens, every leaf", "tokens, MAP", "pixels", "numbers", "numbers, MAP"],
)
STATISTICS = (
    "mean",
    "mode",
    "variance",
    "std",
    "aleatoric_variance",
    "epistemic_variance",
    "entropy",
    "aleatoric_entropy",
    "epistemic_entropy",
)


def close(got, expected):
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=2e-3, atol=2e-4)


def loaders(problem, size=N):
    tokens, points, positions, x, _y = fitted(*problem)
    one = InputsLoader.from_array_inputs(x, batch_size=size)
    other = InputsLoader.from_array_inputs(flat(x, positions))
    return tokens, points, positions, one, other


@FITTED
@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_of_positions_is_that_of_their_points(problem, name):
    tokens, points, positions, one, other = loaders(problem)
    got = getattr(tokens.predictive, name)(one, **OPTIONS)
    expected = np.asarray(getattr(points.predictive, name)(other, **OPTIONS))
    assert got.shape == (N, *positions, *expected.shape[1:])
    close(flat(got, positions), expected)


@FITTED
@pytest.mark.parametrize("name", ["mean", "mode", "variance", "std", "entropy"])
def test_a_statistic_of_the_likelihood(problem, name):
    tokens, points, positions, one, other = loaders(problem, 3)
    params = tokens.posterior.sample(rng=1).params
    got = getattr(tokens.likelihood, name)(params, one)
    expected = np.asarray(getattr(points.likelihood, name)(params, other))
    assert got.shape == (N, *positions, *expected.shape[1:])
    close(flat(got, positions), expected)


@FITTED
def test_outputs_and_samples(problem):
    tokens, points, positions, one, other = loaders(problem)
    params = tokens.posterior.state.get().params
    lead = (N, *positions)
    outputs = tokens.likelihood.get_outputs(params, one)
    close(flat(outputs, positions), points.likelihood.get_outputs(params, other))
    assert tokens.likelihood.get_calibrated_outputs(params, one).shape == outputs.shape
    drawn = tokens.predictive.sample_calibrated_outputs(one, 4, rng=3)
    assert drawn.shape == (4, *lead, outputs.shape[-1])
    expected = points.predictive.sample_calibrated_outputs(other, 4, rng=3)
    close(np.reshape(drawn, expected.shape), expected)
    for holder, arguments in ((tokens.predictive, ()), (tokens.likelihood, (params,))):
        if arguments:
            targets, aux = holder.sample(4, *arguments, one, return_aux=["outputs"], rng=3)
            assert aux["outputs"].shape == outputs.shape
        else:
            targets, aux = holder.sample(one, 4, return_aux=["outputs"], rng=3)
            assert aux["outputs"].shape == (4, *outputs.shape)
        assert targets.shape[1 : 1 + len(lead)] == lead
    # The same keys for as many points: the same draws, but for a rounding on an edge.
    expected = np.asarray(points.predictive.sample(other, 4, rng=3))
    got = np.reshape(tokens.predictive.sample(one, 4, rng=3), expected.shape)
    assert np.mean(np.abs(got - expected) < 2e-3) > 0.98


@FITTED
def test_samples_have_the_frequencies_of_the_mean(problem):
    tokens, _, _positions, one, _ = loaders(problem, 3)
    draws = 4000
    targets = np.asarray(tokens.predictive.sample(one, draws, rng=7))
    mean = np.asarray(tokens.predictive.mean(one, draws, rng=7), np.float64)
    if problem[0] != "numbers":
        targets = targets[..., None] == np.arange(C)
    spread = targets.std(axis=0) + 1e-3
    # Six standard errors, over a few hundred numbers.
    assert np.all(np.abs(targets.mean(axis=0) - mean) < 6 * spread / np.sqrt(draws) + 1e-3)


@FITTED
@pytest.mark.parametrize("way", ["all", "mask"])
@pytest.mark.parametrize("size", [3, N])
def test_log_densities(problem, way, size):
    tokens, points, positions, x, y = fitted(*problem)
    counted = np.random.default_rng(0).random((N, *positions)) < 0.6
    counted[2] = False
    targets, _ = as_targets(y, counted, way)
    kept = counted_positions(way, counted)
    data = DataLoader.from_array_data((x, targets), batch_size=size)
    flat_data = DataLoader.from_array_data((x[kept], y[kept]))
    lead = (N, *positions) if way == "all" else (kept.sum(),)
    got = tokens.predictive.log_prob(data, **OPTIONS)
    assert got.shape == lead
    close(np.ravel(got), points.predictive.log_prob(flat_data, **OPTIONS))
    got = tokens.predictive.ensemble_log_prob(data, **OPTIONS)
    assert got.shape == (4, *lead)
    close(np.reshape(got, (4, -1)), points.predictive.ensemble_log_prob(flat_data, **OPTIONS))
    params = tokens.posterior.sample(rng=1).params
    got = tokens.likelihood.log_prob(params, data)
    assert got.shape == lead
    close(np.ravel(got), points.likelihood.log_prob(params, flat_data))


@pytest.mark.parametrize("what", ["tokens", "pixels"])
@pytest.mark.parametrize("link", ["probit", "bridge"])
def test_links_in_closed_form(what, link):
    tokens, _, _positions, x, y = fitted(what, True)
    laplace = tokens.posterior.laplace
    one = InputsLoader.from_array_inputs(x, batch_size=3)
    mean = tokens.predictive.mean(one, link=link)
    close(mean, laplace.predict(x, link))
    assert tokens.predictive.mode(one, link=link).shape == y.shape
    close(tokens.predictive.variance(one, link=link), mean * (1 - mean))
    close(tokens.predictive.entropy(one, link=link), -np.sum(mean * np.log(mean), axis=-1))
    data = DataLoader.from_array_data((x, y), batch_size=3)
    got = tokens.predictive.log_prob(data, link=link)
    close(got, laplace.log_prob(data, link))
    assert got.shape == y.shape
    counted = np.random.default_rng(0).random(y.shape) < 0.5
    masked = DataLoader.from_array_data((x, (y, counted)), batch_size=3)
    close(tokens.predictive.log_prob(masked, link=link), np.asarray(got)[counted])


def test_statistics_that_are_given():
    tokens, _, _, one, _ = loaders(("tokens", True))
    mean = np.asarray(tokens.predictive.mean(one, **OPTIONS))
    np.testing.assert_array_equal(tokens.predictive.mode(one, means=mean), mean.argmax(-1))
    ones = np.ones_like(mean)
    found = tokens.predictive.variance(one, aleatoric_variances=ones, epistemic_variances=2.0)
    np.testing.assert_array_equal(found, 3 * ones)
    np.testing.assert_array_equal(tokens.predictive.std(one, variances=4 * ones), 2 * ones)
    with pytest.raises(ShapeError, match=rf"one for each of {N * T} points.*\(7, 5, 3\)"):
        tokens.predictive.mode(one, means=mean[0])
    params = tokens.posterior.state.get().params
    np.testing.assert_array_equal(tokens.likelihood.std(params, one, variance=4.0), 2.0)


@pytest.mark.parametrize("what", ["tokens", "pixels"])
def test_credible_sets(what):
    tokens, points, positions, one, other = loaders((what, True))
    for error in (0.05, 0.4):
        got = tokens.predictive.credible_set(one, error=error, **OPTIONS)
        assert got.shape == (N, *positions)
        assert got.dtype == object
        expected = points.predictive.credible_set(other, error=error, **OPTIONS)
        assert got.ravel().tolist() == expected.tolist()


@FITTED
def test_quantiles_and_intervals(problem):
    if problem[0] != "numbers":
        pytest.skip("of numbers")
    tokens, points, _positions, one, other = loaders(problem)
    for q in (0.1, [0.1, 0.5, 0.9]):
        got = np.asarray(tokens.predictive.quantile(q, one, **SAMPLES))
        expected = np.asarray(points.predictive.quantile(q, other, **SAMPLES))
        assert got.shape == (*np.shape(q), N, T, D)
        close(got.reshape(expected.shape), expected)
        params = tokens.posterior.state.get().params
        got = np.asarray(tokens.likelihood.quantile(q, params, one))
        assert got.shape == (*np.shape(q), N, T, D)
    with pytest.raises(ShapeError, match="one target a point, and there are 2"):
        tokens.predictive.credible_interval(one)
    single = regressor(width=1)
    single.train(
        DataLoader.from_array_data((X, NUMBERS[..., 0])),
        fit_config=config(freeze_fun=head_only),
        map_fit_config=config(),
    )
    for kind, ends in (("two-tailed", (0.05, 0.95)), ("left-tailed", (0.1,))):
        got = single.predictive.credible_interval(one, error=0.1, interval_type=kind, **SAMPLES)
        assert got.shape == (N, T, len(ends))
        expected = single.predictive.quantile(ends, one, **SAMPLES)
        np.testing.assert_array_equal(got, np.moveaxis(np.asarray(expected)[..., 0], 0, -1))


@pytest.mark.parametrize("make", [classifier, regressor], ids=["classifier", "regressor"])
@pytest.mark.parametrize("way", ["all", "mask"])
def test_calibration_is_that_of_the_points(make, way):
    y = LABELS if make is classifier else NUMBERS
    targets, _ = as_targets(y, COUNTED, way)
    kept = counted_positions(way, COUNTED)
    seen = []

    def sees(predictions, uncertainties, targets):
        seen.append((predictions.shape, uncertainties.shape, targets.shape))
        return 0.0

    calib = CalibConfig(
        CalibOptimizer(method=ADAM, n_epochs=5),
        processor=CalibProcessor(n_posterior_samples=3),
        monitor=CalibMonitor(verbose=False, metrics=(sees,)),
    )
    fits = []
    for data in ((X, targets), (X[kept], y[kept])):
        loader = DataLoader.from_array_data(data, batch_size=N * T)
        model = make()
        status = model.train(
            loader,
            loader,
            calib_data_loader=loader,
            fit_config=config(freeze_fun=head_only),
            map_fit_config=config(),
            calib_config=calib,
        )
        fits.append((model, status["calib_status"]))
    close(fits[0][1]["loss"], fits[1][1]["loss"])
    close(fits[0][1]["val_loss"], fits[1][1]["val_loss"])
    assert len(set(seen)) == 1
    assert seen[0][0][0] == kept.sum()
    temperatures = [
        m.posterior.state.get().calib_params["output_calibrator"]["params"]["log_temp"]
        for m, _ in fits
    ]
    close(*temperatures)
    assert abs(temperatures[0][0]) > 1e-3
    one = InputsLoader.from_array_inputs(X)
    other = InputsLoader.from_array_inputs(rows(X))
    close(
        np.reshape(fits[0][0].predictive.mean(one, **OPTIONS), (N * T, -1)),
        fits[1][0].predictive.mean(other, **OPTIONS),
    )
    if make is classifier:
        closed = fits[0][0].predictive.mean(one, link="probit")
        close(rows(closed), fits[1][0].predictive.mean(other, link="probit"))


def test_calibration_in_batches_of_which_some_are_padding():
    counted = COUNTED.copy()
    counted[2:4] = False
    loader = DataLoader.from_array_data((X, (LABELS, counted)), batch_size=2)
    model = classifier(laplace=False)
    model.train(loader, fit_config=config())
    calib = CalibConfig(
        CalibOptimizer(method=optax.sgd(0.0), n_epochs=1), monitor=CalibMonitor(verbose=False)
    )
    status = model.calibrate(loader, loader, calib)
    expected = -np.mean(np.asarray(model.predictive.log_prob(loader)))
    np.testing.assert_allclose(status["loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(status["val_loss"], expected, rtol=1e-6)


def test_validation_data_with_masks_choose_the_prior():
    targets, options = as_targets(LABELS, COUNTED, "label")
    loader = DataLoader.from_array_data((X, targets), batch_size=3)
    model = ProbClassifier(
        classifier().model, posterior_approximator=LaplacePosteriorApproximator(), **options
    )
    status = model.train(
        loader, loader, fit_config=config(freeze_fun=head_only), map_fit_config=config()
    )["fit_status"]["laplace"]
    mean = np.mean(model.posterior.laplace.log_prob(loader))
    np.testing.assert_allclose(status["tuning"]["objective"], mean, rtol=1e-6)
    again = model.posterior.prior_log_variance_tuning(loader, grid_size=3)
    assert again["num_data"] == COUNTED.sum()


class Tokens(nnx.Module):
    """Token ids with a mask, by NNX."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 6, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(6, C, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens["input_ids"]) * tokens["attention_mask"][..., None]
        return self.head(self.drop(jnp.tanh(x + x.mean(axis=1, keepdims=True))))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_real_network_of_tokens(kind):
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 11, (12, T))
    mask = np.arange(T) < rng.integers(2, T + 1, 12)[:, None]
    inputs = {"input_ids": ids, "attention_mask": mask}
    labels = np.where(mask, ids % C, -100)
    model = ProbClassifier(
        Tokens(nnx.Rngs(0))
        if kind == "nnx"
        else TransformerEncoder(C, 11, T, 8, depth=1, num_heads=2, pool="tokens", dropout_rate=0.1),
        ignored_label=-100,
    )
    loader = DataLoader.from_array_data((inputs, labels), batch_size=5, shuffle=True)
    name = "head" if kind == "nnx" else "output_subnet"
    status = model.train(
        loader,
        loader,
        loader,
        fit_config=FitConfig(
            FitOptimizer(freeze_fun=lambda path, v: "trainable" if name in path else "frozen"),
            monitor=FitMonitor(verbose=False),
        ),
        map_fit_config=config(ADAM, n_epochs=60, metrics=(accuracy,)),
        calib_config=CalibConfig(CalibOptimizer(n_epochs=2), monitor=CalibMonitor(verbose=False)),
    )
    assert status["fit_status"]["map"]["val_accuracy"][-1] > 0.9
    assert status["fit_status"]["laplace"]["num_data"] == mask.sum()
    assert model.posterior.laplace.linearised.head is not None
    found = model.predictive.mode(loader.to_inputs_loader())
    assert found.shape == (12, T)
    assert np.mean(np.asarray(found)[mask] == labels[mask]) > 0.9
    density = model.predictive.log_prob(loader)
    assert density.shape == (mask.sum(),)
    assert np.isfinite(density).all()


def test_what_has_no_positions_may_not_be_asked_by_another_shape():
    tokens = fitted("tokens", True)[0]
    with pytest.raises((ShapeError, InvalidArgumentError)):
        tokens.predictive.mean(InputsLoader.from_array_inputs(X[..., :2]))
    with pytest.raises(ShapeError, match=r"targets of batch 0 have shape \(7,\)"):
        tokens.predictive.log_prob([(X, LABELS[:, 0])])
    # Sequences of another length are no other question.
    longer = jnp.concatenate([X, X], axis=1)
    assert tokens.predictive.mean([longer]).shape == (N, 2 * T, C)


def test_predictions_are_put_in_their_place_and_joined_by_nobody(monkeypatch):
    tokens = fitted("tokens", True)[0]
    by_arrays = InputsLoader.from_array_inputs(X, batch_size=3)
    by_a_stream = InputsLoader.from_iterable([X[i : i + 3] for i in range(0, N, 3)])
    expected = {
        name: np.asarray(getattr(tokens.predictive, name)(by_a_stream, rng=0))
        for name in ("mean", "mode", "entropy", "sample")
    }

    join = np.concatenate

    def refuse(*arguments, **options):
        joined = join(*arguments, **options)
        assert N * T not in joined.shape, "a second array of all predictions"
        return joined

    monkeypatch.setattr("hoarfrost.prob_model.likelihood.statistics.np.concatenate", refuse)
    for name, wanted in expected.items():
        found = getattr(tokens.predictive, name)(by_arrays, rng=0)
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    # What is not known to end is joined, and the test would see it.
    with pytest.raises(AssertionError, match="second array"):
        tokens.predictive.mean(by_a_stream)
