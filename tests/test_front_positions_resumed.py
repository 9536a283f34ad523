"""Positions beside what breaks a run into parts: updates of several batches, resumes, features."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from front_problems import (
    ADAM,
    COUNTED,
    LABELS,
    DataLoader,
    N,
    T,
    X,
    as_targets,
    classifier,
    head_only,
)
from token_problems import PARAMS, fit, token_net
from token_problems import head_only as over_head

import hoarfrost
from hoarfrost.laplace import resume
from hoarfrost.metric import accuracy
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
)

# The batch of padding alone lies between others, in the middle of an update.
SIZES = ((0, 2), (2, 3), (3, 5), (5, 7))


def config(n_epochs, steps=None, freeze_fun=None, cache="auto", **checkpointer):
    return FitConfig(
        FitOptimizer(method=ADAM, n_epochs=n_epochs, freeze_fun=freeze_fun),
        FitCheckpointer(**checkpointer),
        monitor=FitMonitor(verbose=False, metrics=(accuracy,)),
        hyperparameters=FitHyperparameters(gradient_accumulation_steps=steps),
        processor=FitProcessor(cache_features=cache),
    )


def batches(way, sizes=SIZES):
    y, options = as_targets(LABELS, COUNTED, way)
    rows = [slice(*size) for size in sizes]
    if way == "mask":
        return [(X[r], (y[0][r], y[1][r])) for r in rows], options
    return [(X[r], y[r]) for r in rows], options


def params_of(model):
    return jax.tree.leaves(model.posterior.state.get().params)


@pytest.mark.parametrize("way", ["label", "mask"])
def test_an_update_of_several_batches_is_that_of_their_points(way):
    small, options = batches(way)
    large, _ = batches(way, ((0, 5), (5, 7)))
    found = []
    # Of the four batches one is no turn: two and one make the updates.
    for data, steps in ((small, 2), (large, None)):
        model = classifier(False, **options)
        status = model.train(data, fit_config=config(4, steps))["fit_status"]
        found.append((status["accuracy"][-1], params_of(model)))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize("way", ["label", "mask"])
def test_a_broken_epoch_goes_on_with_what_counts(way, steps, tmp_path):
    data, options = batches(way)
    whole = classifier(False, **options)
    folder = str(tmp_path / "checkpoints")
    every = {"save_checkpoint_dir": folder, "save_every_n_steps": 1, "keep_top_n_checkpoints": 30}
    expected = whole.train(data, data, fit_config=config(3, steps, **every))["fit_status"]
    places = sorted(os.listdir(folder), key=lambda name: (len(name), name))
    # Three steps an epoch; of updates two, and one more where all is done.
    assert len(places) == (9 if steps is None else 6) + 1
    for place in places[:-1]:
        again = classifier(False, **options)
        path = os.path.join(folder, place)
        epochs = 3 - int(places.index(place) // (len(places[:-1]) // 3))
        status = again.train(
            data, data, fit_config=config(epochs, steps, restore_checkpoint_path=path)
        )["fit_status"]
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            np.testing.assert_array_equal(status[name][:3], expected[name])


@pytest.mark.parametrize("trainable", [over_head, None], ids=["head", "all"])
def test_a_fit_of_several_lengths_goes_on_and_takes_more(trainable, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(resume, "_SHARE", 1e9)
    y = np.where(COUNTED, LABELS, -100)
    # Lengths in turn, in two pieces a batch where a piece holds so few, and one of padding alone.
    monkeypatch.setattr("hoarfrost.curvature.head.MAX_POINTS", 2 * T)
    parts = [(X[:3], y[:3]), (X[3:5, :2], y[3:5, :2]), (X[2:3], y[2:3]), (X[3:], y[3:])]
    parts += [(X[:4, :3], y[:4, :3]), (X[4:], y[4:])]
    options = {"trainable": trainable, "progress": False, "ignored_label": -100}

    def fitted(data, **more):
        return hoarfrost.fit_laplace(token_net, PARAMS, data, **options, **more)

    whole = fitted(parts)
    for after in range(1, len(parts)):

        def stopped(after=after):
            yield from parts[:after]
            raise KeyboardInterrupt

        folder = tmp_path / str(after)
        with pytest.raises(KeyboardInterrupt):
            fitted(DataLoader.from_callable_iterable(stopped), resume_dir=folder)
        got = fitted(parts, resume_dir=folder)
        np.testing.assert_array_equal(got.precision(), whole.precision())
        assert got.log_marginal_likelihood() == whole.log_marginal_likelihood()
        assert got.num_data == whole.num_data == sum((t >= 0).sum() for _, t in parts)
    more = fitted(parts[:1])
    more.update(parts[1:], progress=False)
    np.testing.assert_allclose(more.precision(), whole.precision(), rtol=1e-4, atol=1e-4)
    assert more.num_data == whole.num_data


@pytest.mark.filterwarnings("ignore:the (temperature|prior precision) that predicts")
@pytest.mark.parametrize("parameters", ["temperature", ("prior_precision", "temperature")])
def test_held_out_data_of_several_lengths(parameters):
    held = [(X[:3, :2], LABELS[:3, :2]), (X[3:], LABELS[3:])]
    posterior = fit(X, LABELS)
    draws = posterior.log_prob(held)
    assert draws.shape == (3 * 2 + 4 * T,)
    separate = [posterior.log_prob([one]).reshape(-1) for one in held]
    np.testing.assert_allclose(draws, np.concatenate(separate), rtol=1e-4, atol=1e-5)
    value = posterior.optimize_on(held, parameters=parameters)
    assert np.isfinite(value).all()
    np.testing.assert_allclose(
        np.mean(posterior.log_prob(held)), posterior.held_out.log_prob, rtol=1e-5
    )


@pytest.mark.parametrize("cache", [True, "auto"])
@pytest.mark.parametrize("way", ["all", "label", "mask"])
@pytest.mark.filterwarnings("ignore:freeze_fun of a MAP run")
def test_features_keep_what_counts(way, cache):
    y, options = as_targets(LABELS, COUNTED, way)
    data = DataLoader.from_array_data((X, y), batch_size=3)
    found = []
    for chosen in (cache, False):
        model = classifier(False, **options)
        status = model.train(data, data, fit_config=config(3, None, head_only, chosen))
        found.append((status["fit_status"]["val_loss"], params_of(model)))
    np.testing.assert_allclose(*(loss for loss, _ in found), rtol=1e-5)
    for one, other in zip(*(params for _, params in found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:freeze_fun of a MAP run")
def test_validation_data_of_another_length_are_no_features():
    model = classifier(False)
    train = DataLoader.from_array_data((X, LABELS), batch_size=3)
    longer = jnp.concatenate([X, X], axis=1), np.concatenate([LABELS, LABELS], axis=1)
    val = DataLoader.from_array_data(longer, batch_size=N)
    status = model.train(train, val, fit_config=config(2, None, head_only))["fit_status"]
    assert status["features"] == "not cached: validation data have another shape"
    assert np.isfinite(status["val_loss"]).all()
