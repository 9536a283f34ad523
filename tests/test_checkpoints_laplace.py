"""Checkpoints of a Laplace posterior, and where its fit starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoint_problems import (
    TRAIN,
    VAL,
    Net,
    calib,
    config,
    laplace_model,
    map_model,
    same_tree,
)

from hoarfrost.data import DataLoader
from hoarfrost.errors import CheckpointAccessError, CheckpointError, NotFittedError
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.prob_model.posterior import LaplaceState, PosteriorState

KEY = jax.random.PRNGKey(2)


def laplace_config(freeze_fun=None, **disk):
    return FitConfig(
        optimizer=FitOptimizer(freeze_fun=freeze_fun),
        monitor=FitMonitor(verbose=False),
        checkpointer=FitCheckpointer(**disk),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A MAP and its checkpoint."""
    folder = tmp_path_factory.mktemp("map")
    model = map_model()
    model.train(TRAIN, fit_config=config(2, save_checkpoint_dir=folder))
    return model, folder


def params_of(model):
    return model.posterior.state.get().params


def test_a_fit_starts_from_the_checkpoint_of_a_map(trained):
    first, folder = trained
    model = laplace_model()
    status = model.train(TRAIN, fit_config=laplace_config(restore_checkpoint_path=folder))
    assert same_tree(params_of(model), params_of(first))
    start = status["fit_status"]["start"]
    assert "map" not in status["fit_status"] and start["not_used"] == ()
    assert (start["from"], start["step"], start["epochs"]) == ("checkpoint", 10, 2)


def test_a_map_is_loaded_and_then_fitted(trained):
    first, folder = trained
    model = laplace_model()
    model.load_state(folder)
    assert type(model.posterior.state.get()) is PosteriorState
    with pytest.raises(NotFittedError, match="start_from_current_state=True"):
        model.predictive.mean(TRAIN.to_inputs_loader())
    model.train(TRAIN, fit_config=laplace_config(start_from_current_state=True))
    assert same_tree(params_of(model), params_of(first))


def test_training_on_the_way_goes_on_from_a_checkpoint(trained):
    _, folder = trained
    whole, second = laplace_model(), laplace_model()
    # The network of a Laplace model starts from another draw than that of a MAP model.
    second.train(
        TRAIN,
        fit_config=laplace_config(),
        map_fit_config=config(1, restore_checkpoint_path=folder),
    )
    map_only = map_model()
    map_only.train(TRAIN, fit_config=config(3))
    assert same_tree(params_of(second), params_of(map_only))
    whole.train(TRAIN, fit_config=laplace_config(), map_fit_config=config(3))
    assert not same_tree(params_of(second), params_of(whole))


@pytest.mark.parametrize("source", ["restore_checkpoint_path", "start_from_current_state"])
def test_a_start_wins_over_map_fit_config(source, trained):
    first, folder = trained
    model = laplace_model()
    model.load_state(folder)
    given = {source: folder if source == "restore_checkpoint_path" else True}
    with pytest.warns(UserWarning, match="does not use map_fit_config"):
        status = model.train(
            TRAIN, VAL, fit_config=laplace_config(**given), map_fit_config=config(10**6)
        )
    assert status["fit_status"]["start"]["not_used"] == ("map_fit_config",)
    assert same_tree(params_of(model), params_of(first))


def test_everything_at_once(trained):
    _, folder = trained
    model = laplace_model()
    both = {"restore_checkpoint_path": folder, "start_from_current_state": True}
    with pytest.warns(UserWarning, match="not use start_from_current_state and map_fit_config"):
        status = model.train(TRAIN, fit_config=laplace_config(**both), map_fit_config=config())
    lost = status["fit_status"]["start"]["not_used"]
    assert lost == ("start_from_current_state", "map_fit_config")


def test_steps_and_a_map_on_the_disk_have_no_effect_and_say_so(tmp_path, trained):
    disk = {"save_checkpoint_dir": tmp_path}
    often = laplace_config(restore_checkpoint_path=trained[1], save_every_n_steps=3, **disk)
    with pytest.warns(UserWarning, match=r"not use fit_config.checkpointer.save_every_n_steps"):
        laplace_model().train(TRAIN, fit_config=often)
    with pytest.warns(UserWarning, match="map_fit_config.checkpointer.dump_state has no effect"):
        laplace_model().train(
            TRAIN, fit_config=laplace_config(), map_fit_config=config(1, dump_state=True, **disk)
        )


def predictions(model):
    predictive = model.predictive
    return [
        np.asarray(predictive.log_prob(TRAIN, rng=KEY)),
        np.asarray(predictive.mean(TRAIN.to_inputs_loader(), rng=KEY)),
        jax.tree.map(np.asarray, model.posterior.sample(KEY).params),
        model.posterior.laplace.log_marginal_likelihood(),
    ]


CASES = {
    "full": ({}, None),
    "a last layer": ({}, ["head"]),
    "diag": ({"hessian_structure": "diag"}, None),
    "tuned": ({"tune_prior_log_variance": True}, ["head"]),
}


def fitted(case, **disk):
    settings, freeze_fun = CASES[case]
    approximator = LaplacePosteriorApproximator(**{"tune_prior_log_variance": False, **settings})
    model = ProbClassifier(Net(), posterior_approximator=approximator)
    fit_config = laplace_config(freeze_fun, **disk)
    status = model.train(TRAIN, fit_config=fit_config, map_fit_config=config(2))
    return model, status["fit_status"]


@pytest.mark.parametrize("case", CASES)
def test_a_posterior_comes_back_without_a_fit(case, tmp_path):
    model, status = fitted(case, save_checkpoint_dir=tmp_path)
    loaded, by_hand = laplace_model(), laplace_model()
    loaded.load_state(status["checkpoint"])
    assert isinstance(loaded.posterior.state.get(), LaplaceState)
    model.save_state(tmp_path / "by hand")
    by_hand.load_state(tmp_path / "by hand")
    for other in (loaded, by_hand):
        assert same_tree(predictions(model), predictions(other))
        own, state = model.posterior.state.get(), other.posterior.state.get()
        assert same_tree((own.params, own.mutable), (state.params, state.mutable))
        assert own.partition == state.partition
        assert own.prior_log_var == state.prior_log_var
    # Another fit starts there; its own posterior is saved again.
    by_hand.train(TRAIN, fit_config=laplace_config(restore_checkpoint_path=tmp_path / "by hand"))
    by_hand.save_state(tmp_path / "by hand", keep_top_n_checkpoints=2)
    assert len(os.listdir(tmp_path / "by hand")) == 2


def more_data(laplace):
    laplace.update(VAL, progress=False)
    return laplace


CHANGES = {
    "temperature": lambda laplace: laplace.with_temperature(2.5),
    "prior precision": lambda laplace: laplace.with_prior_precision(7.0),
    "both": lambda laplace: laplace.with_prior_precision(7.0).with_temperature(0.5),
    "more data": more_data,
    "more data and a temperature": lambda laplace: more_data(laplace).with_temperature(2.5),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("case", ["full", "a last layer", "diag"])
def test_a_posterior_that_was_changed_comes_back_as_it_is(case, change, tmp_path):
    model, _ = fitted(case)
    before = predictions(model)
    state = model.posterior.state.get()
    changed = CHANGES[change](state.laplace)
    model.posterior.state.put(state.replace(laplace=changed))
    model.save_state(tmp_path)
    loaded = laplace_model()
    loaded.load_state(tmp_path)
    own, other = changed, loaded.posterior.laplace
    assert own.temperature == other.temperature
    assert own.num_data == other.num_data
    np.testing.assert_array_equal(own.prior_precision, other.prior_precision)
    assert same_tree(predictions(model), predictions(loaded))
    assert not same_tree(before, predictions(loaded))


def test_the_folder_of_a_map_keeps_the_map(tmp_path):
    settings = config(2, save_checkpoint_dir=tmp_path, keep_top_n_checkpoints=1)
    model = laplace_model()
    for _ in range(2):
        model.train(
            TRAIN,
            fit_config=laplace_config(save_checkpoint_dir=tmp_path, keep_top_n_checkpoints=1),
            map_fit_config=settings,
        )
    assert sorted(os.listdir(tmp_path)) == ["laplace_4_step_10", "map_3_step_10"]
    at_map, loaded = map_model(), laplace_model()
    at_map.load_state(tmp_path)
    loaded.load_state(tmp_path)
    assert same_tree(params_of(at_map), params_of(model))
    assert same_tree(predictions(loaded), predictions(model))


def test_a_posterior_on_the_disk_predicts_and_is_calibrated(tmp_path):
    held, _ = fitted("full")
    model, _ = fitted("full", save_checkpoint_dir=tmp_path, dump_state=True)
    assert model.posterior.state.get() is not model.posterior.state.get()
    assert same_tree(predictions(held), predictions(model))
    for one in (held, model):
        one.rng.__init__(0)
        one.calibrate(VAL, calib_config=calib())
    assert same_tree(predictions(held), predictions(model))
    assert model.posterior.state.get().calib_params is not None
    model.save_state(tmp_path / "calibrated")
    loaded = laplace_model()
    loaded.load_state(tmp_path / "calibrated")
    assert same_tree(predictions(held), predictions(loaded))


def test_a_damaged_posterior_is_an_error_and_changes_nothing(tmp_path):
    model, status = fitted("full", save_checkpoint_dir=tmp_path)
    place = status["checkpoint"]
    before = model.posterior.state.get()
    file = os.path.join(place, "posterior.safetensors")
    whole = Path(file).read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:5], whole[:8] + b"x" + whole[9:]):
        Path(file).write_bytes(damage)
        with pytest.raises(CheckpointError):
            model.load_state(tmp_path)
        assert model.posterior.state.get() is before
    os.remove(file)
    with pytest.raises((CheckpointError, CheckpointAccessError)):
        model.load_state(tmp_path)
    shutil.rmtree(place)
    with pytest.raises(CheckpointAccessError, match="holds no checkpoint"):
        model.load_state(tmp_path)


def test_a_posterior_of_another_network_is_an_error(tmp_path):
    fitted("a last layer", save_checkpoint_dir=tmp_path)
    other = laplace_model(Net(5))
    with pytest.raises(CheckpointError, match=r"has shape \(5,\)"):
        other.load_state(tmp_path)
    assert other.posterior.state.is_empty
    with pytest.raises(CheckpointAccessError, match="holds no checkpoint of 'map', but laplace_1"):
        map_model().load_state(tmp_path)


def test_a_posterior_that_cannot_be_written_is_kept(tmp_path, monkeypatch):
    from hoarfrost.training import checkpoint

    def full(*arguments):
        raise OSError(28, "No space left on device")

    model, held = laplace_model(), fitted("full")[0]
    with monkeypatch.context() as patched, pytest.raises(CheckpointAccessError) as caught:
        patched.setattr(checkpoint, "_write_arrays", full)
        model.train(
            TRAIN,
            fit_config=laplace_config(save_checkpoint_dir=tmp_path),
            map_fit_config=config(2),
        )
    assert "the posterior that was fitted" in "".join(caught.value.__notes__)
    assert same_tree(predictions(model), predictions(held)) and os.listdir(tmp_path) == []


def test_loaders_of_other_data_do_not_matter_to_what_is_loaded(tmp_path):
    model, _ = fitted("full", save_checkpoint_dir=tmp_path)
    loaded = laplace_model()
    loaded.load_state(tmp_path)
    other = DataLoader.from_array_data(VAL.to_array_data(), batch_size=3)
    inputs = other.to_inputs_loader()
    assert same_tree(*(np.asarray(m.predictive.mean(inputs, rng=KEY)) for m in (model, loaded)))
