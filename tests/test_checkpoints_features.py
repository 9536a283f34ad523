"""Checkpoints of trainings over features and over data: each goes on from those of the other."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax
import pytest
from checkpoint_problems import at_step, right, same_run, same_tree
from feature_cases import X_NEW, Y_NEW, D, Net, loader, near, variables

import hoarfrost
from hoarfrost.errors import CheckpointError, InvalidArgumentError
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
)

features = functools.partial(hoarfrost.features, progress=False)
ADAM = optax.adam(1e-2)
TRAIN, VAL = loader(shuffle=True), loader(X_NEW, Y_NEW)  # 4 steps an epoch
PARAMS = variables()
HEAD = ("head",)


def model(module=None):
    """A front that starts from the same parameters each time."""
    front = ProbClassifier(module or Net(), posterior_approximator=MAPPosteriorApproximator())
    front.load_params(PARAMS)
    return front


def config(epochs, cache=False, freeze=HEAD, steps=None, patience=0, **disk):
    return FitConfig(
        optimizer=FitOptimizer(ADAM, epochs, freeze_fun=list(freeze)),
        monitor=FitMonitor((right,), early_stopping_patience=patience, verbose=False),
        processor=FitProcessor(cache_features=cache),
        hyperparameters=FitHyperparameters(gradient_accumulation_steps=steps),
        checkpointer=FitCheckpointer(**disk),
    )


def trained(kind, epochs, **options):
    """Train over the data, over features that are cached, or over features by hand."""
    options.setdefault("start_from_current_state", "restore_checkpoint_path" not in options)
    options.setdefault("keep_top_n_checkpoints", 20)
    data = TRAIN, VAL
    if kind == "by hand":
        data = tuple(features(Net(), PARAMS, one, trainable=list(HEAD)) for one in data)
    front = model()
    cache = options.pop("cache", kind == "cached")
    return front, front.train(*data, fit_config=config(epochs, cache, **options))["fit_status"]


def alike(first, second, status, other):
    """The same to rounding."""
    states = [one.posterior.state.get() for one in (first, second)]
    jax.tree.map(near, *((state.params, state.opt_state) for state in states))
    assert int(states[0].step) == int(states[1].step)
    for name in ("loss", "val_loss", "right", "val_right"):
        near(status[name], other[name])


KINDS = ("data", "cached", "by hand")


@pytest.mark.parametrize("steps", [None, 2], ids=["each batch", "accumulation"])
@pytest.mark.parametrize("then", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_each_goes_on_from_the_checkpoints_of_the_others(first, then, steps, tmp_path):
    whole, status = trained(first, 4, steps=steps, patience=9)
    kept = {"save_checkpoint_dir": tmp_path, "save_every_n_steps": 2}
    trained(first, 4, steps=steps, patience=9, **kept)
    for step, left in ((6, 3), (8, 3)):
        place = at_step(tmp_path, step)
        goes_on = {"restore_checkpoint_path": place, "steps": steps, "patience": 9}
        second, other = trained(then, left, **goes_on)
        alike(whole, second, status, other)
        if first == then:
            assert same_run(whole, second, status, other)


@pytest.mark.parametrize("kind", ["data", "cached"])
def test_what_chooses_by_itself_goes_on_as_the_checkpoint_did(kind, tmp_path):
    """Of one epoch that is left, too, which alone would not pay."""
    whole, status = trained(kind, 3)
    trained(kind, 2, save_checkpoint_dir=tmp_path, save_every_n_steps=6)
    for place, left in ((tmp_path, 1), (at_step(tmp_path, 6), 2)):
        second, other = trained("auto", left, cache="auto", restore_checkpoint_path=place)
        reason = "there is one epoch" if left == 1 else "the checkpoint's run went over the data"
        assert other.pop("features") == status.get("features", f"not cached: {reason}")
        recorded = {name: status[name] for name in other if name in status}
        assert same_run(whole, second, recorded, other)


def test_after_a_training_of_all_parameters_it_chooses_anew(tmp_path):
    front = model()
    first = config(1, save_checkpoint_dir=tmp_path, freeze=("hidden", "head"))
    front.train(TRAIN, VAL, fit_config=first)
    with pytest.warns(UserWarning, match="optimiser's state is that of other trainable"):
        _, status = trained("auto", 2, cache="auto", restore_checkpoint_path=tmp_path)
    assert status["features"].startswith("cached: ")


@pytest.mark.parametrize("first", KINDS)
def test_features_of_other_parameters_than_the_checkpoints_are_an_error(first, tmp_path):
    trained(first, 1, save_checkpoint_dir=tmp_path)
    front = model()
    others = jax.tree.map(lambda leaf: leaf + 1, PARAMS)
    data = [features(Net(), others, one, trainable=list(HEAD)) for one in (TRAIN, VAL)]
    before = front.posterior.state.get()
    with pytest.raises(InvalidArgumentError, match="train_data_loader holds features of another"):
        front.train(*data, fit_config=config(1, restore_checkpoint_path=tmp_path))
    assert front.posterior.state.get() is before


def test_features_go_with_the_layer_that_is_trained(tmp_path):
    trained("data", 1, freeze=("hidden",), save_checkpoint_dir=tmp_path)
    restored = {"restore_checkpoint_path": tmp_path}
    with pytest.raises(InvalidArgumentError, match="features of another layer"):
        trained("by hand", 1, freeze=("hidden",), **restored)
    with pytest.raises(InvalidArgumentError, match="cache_features is True, but freeze_fun"):
        trained("cached", 1, freeze=("hidden",), **restored)


def test_a_posterior_over_features_starts_from_a_checkpoint_and_comes_back(tmp_path):
    first, _ = trained("by hand", 2, save_checkpoint_dir=tmp_path / "map")
    state = first.posterior.state.get()
    assert state.progress.inputs.shape == (0, D)  # those of the whole network

    def laplace():
        approximator = LaplacePosteriorApproximator(tune_prior_log_variance=False)
        return ProbClassifier(Net(), posterior_approximator=approximator)

    found = []
    for data in (TRAIN, features(Net(), PARAMS, TRAIN, trainable=list(HEAD))):
        front = laplace()
        folder = tmp_path / f"laplace {len(found)}"
        disk = {"restore_checkpoint_path": tmp_path / "map", "save_checkpoint_dir": folder}
        settings = FitConfig(
            optimizer=FitOptimizer(freeze_fun=list(HEAD)),
            monitor=FitMonitor(verbose=False),
            checkpointer=FitCheckpointer(**disk),
        )
        front.train(data, fit_config=settings)
        loaded = laplace()
        loaded.load_state(folder)
        own, other = (one.predictive.mean(VAL.to_inputs_loader()) for one in (front, loaded))
        np.testing.assert_array_equal(own, other)
        assert same_tree(loaded.posterior.state.get().params, state.params)
        found.append(own)
    near(*found)


OTHERS = {
    "other trainable parameters": ({"freeze": ("hidden",), "steps": 2}, "data"),
    "none where there were some": ({}, "data"),
    "more batches": ({"steps": 4}, "data"),
    "more batches, cached": ({"steps": 4}, "cached"),
    "more batches than an epoch has": ({"steps": 9}, "by hand"),
}


@pytest.mark.filterwarnings("ignore:not all of the checkpoint could be used")
@pytest.mark.parametrize("case", OTHERS)
def test_other_updates_in_a_broken_epoch_are_an_error(case, tmp_path):
    options, kind = OTHERS[case]
    trained("data", 1, steps=2, save_checkpoint_dir=tmp_path, save_every_n_steps=2)
    place = at_step(tmp_path, 2)
    with pytest.raises(CheckpointError, match="middle of an epoch with other gradient_accumul"):
        trained(kind, 1, restore_checkpoint_path=place, **options)


def test_updates_of_other_sizes_from_the_end_of_one_are_those_that_are_asked_for(tmp_path):
    """Four batches in: two updates of two then, or one of four."""
    first, _ = trained("data", 1, steps=2, save_checkpoint_dir=tmp_path, save_every_n_steps=4)
    parts = []
    for place in ("map_1_step_4", "map_2_step_4"):
        left = 2 if place == "map_1_step_4" else 1
        goes_on = {"restore_checkpoint_path": tmp_path / place, "steps": 4}
        second, _ = trained("data", left, **goes_on)
        parts.append(second.posterior.state.get())
    assert same_tree(*((part.params, part.opt_state, np.asarray(part.step)) for part in parts))
    assert not same_tree(parts[0].params, first.posterior.state.get().params)
