"""Calibrations that go on from a checkpoint."""

from __future__ import annotations

import os

import flax.linen as nn
import jax
import numpy as np
import pytest
from checkpoint_problems import (
    ADAM,
    TRAIN,
    VAL,
    X,
    Y,
    at_step,
    calib,
    config,
    laplace_model,
    map_model,
    recorded,
    same_tree,
    unsure,
)

from hoarfrost.data import DataLoader
from hoarfrost.errors import CheckpointAccessError, CheckpointError
from hoarfrost.prob_model import FitConfig, FitMonitor
from hoarfrost.prob_model.calib_config import CalibCheckpointer

CALIB = DataLoader.from_array_data((X, Y), batch_size=12)  # 3 steps
STOPPING = {"early_stopping_patience": 1, "metrics": (unsure,)}
RUNS = {
    "map": (map_model, {}),
    "samples": (laplace_model, {}),
    "metrics": (map_model, {"monitor": {"metrics": (unsure,)}}),
    "early stopping": (map_model, {"monitor": {**STOPPING, "early_stopping_min_delta": 1e-3}}),
}


class Bias(nn.Module):
    @nn.compact
    def __call__(self, outputs):
        return outputs + self.param("bias", nn.initializers.zeros, outputs.shape[-1:])


def trained(make, **options):
    model = make(nn.Dense(2), **options)
    quiet = FitConfig(monitor=FitMonitor(verbose=False))
    parts = {"fit_config": quiet, "map_fit_config": config(1)}
    model.train(TRAIN, **(parts if make is laplace_model else {"fit_config": config(1)}))
    return model


@pytest.mark.parametrize("name", RUNS)
def test_three_and_three_epochs_are_six(name, tmp_path):
    make, settings = RUNS[name]
    whole, first, second = (trained(make) for _ in range(3))
    status = whole.calibrate(CALIB, VAL, calib(6, **settings))
    folder = tmp_path / "calibration"
    first.calibrate(CALIB, VAL, calib(3, save_checkpoint_dir=folder, **settings))
    second.rng.get()  # the weight samples are those of the first calibration all the same
    other = second.calibrate(CALIB, VAL, calib(3, restore_checkpoint_path=folder, **settings))
    assert same_tree(recorded(status), recorded(other))
    params = [model.posterior.state.get().calib_params for model in (whole, second)]
    assert same_tree(*params)
    assert (len(status["loss"]) < 6) == (name == "early stopping")


def test_a_broken_epoch_is_finished_first(tmp_path):
    whole = trained(map_model)
    often = {"save_every_n_steps": 1, "keep_top_n_checkpoints": 20}
    settings = calib(3, save_checkpoint_dir=tmp_path, **often)
    status = whole.calibrate(CALIB, VAL, settings)
    for step in (1, 2, 3, 7):
        second = trained(map_model)
        restored = calib(3 - (step - 1) // 3, restore_checkpoint_path=at_step(tmp_path, step))
        other = second.calibrate(CALIB, VAL, restored)
        assert same_tree(recorded(status), recorded(other)), step
    assert other["start"]["epochs"] == 2 and other["start"]["step"] == 7


def test_it_says_what_it_does_not_fit(tmp_path):
    trained(map_model).calibrate(CALIB, VAL, calib(save_checkpoint_dir=tmp_path))
    restored = calib(restore_checkpoint_path=tmp_path)
    with pytest.warns(UserWarning, match="of another posterior or on other data"):
        trained(map_model, seed=5).calibrate(CALIB, VAL, restored)
    with pytest.warns(UserWarning, match="of another posterior or on other data"):
        trained(map_model).calibrate(VAL, None, restored)
    other = trained(map_model, output_calibrator=Bias())
    with pytest.raises(CheckpointError, match=r"another output_calibrator: at 'params/bias' it"):
        other.calibrate(CALIB, VAL, restored)
    assert other.posterior.state.get().calib_params is None
    with pytest.raises(CheckpointAccessError, match="holds no checkpoint of 'map', but calibrat"):
        map_model().load_state(tmp_path)
    with pytest.raises(CheckpointError, match="is a checkpoint of the method 'calibration'"):
        map_model().load_state(tmp_path / os.listdir(tmp_path)[0])


def test_calibrating_after_loading_touches_no_file(tmp_path):
    model, loaded = trained(map_model), map_model(nn.Dense(2))
    model.save_state(tmp_path)
    files = sorted(tmp_path.rglob("*"))
    times = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in files]
    loaded.load_state(tmp_path)
    loaded.calibrate(CALIB, VAL, calib())
    assert sorted(tmp_path.rglob("*")) == files
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in files] == times
    # The calibration is part of the state that is saved and loaded.
    loaded.save_state(tmp_path / "calibrated")
    again = map_model(nn.Dense(2))
    again.load_state(tmp_path / "calibrated")
    states = [model.posterior.state.get() for model in (loaded, again)]
    assert same_tree(*(state.calib_params for state in states))
    key = jax.random.PRNGKey(0)
    np.testing.assert_array_equal(
        *(np.asarray(m.predictive.log_prob(TRAIN, rng=key)) for m in (loaded, again))
    )


def test_a_calibration_that_the_model_has_no_use_for(tmp_path):
    model = trained(map_model)
    model.calibrate(CALIB, VAL, calib())
    model.save_state(tmp_path)
    without = map_model(nn.Dense(2), output_calibrator=None)
    with pytest.warns(UserWarning, match="has a calibration, and the model was made with"):
        without.load_state(tmp_path)
    assert without.posterior.state.get().calib_params is None
    without.predictive.log_prob(TRAIN, rng=jax.random.PRNGKey(0))
    other = map_model(nn.Dense(2), output_calibrator=Bias())
    with pytest.raises(CheckpointError, match=r"another model: at 'output_calibrator/params/bias'"):
        other.load_state(tmp_path)
    assert other.posterior.state.is_empty


@pytest.mark.parametrize("dumped", ["fit", "calibration"])
def test_a_state_on_the_disk_is_calibrated(dumped, tmp_path):
    model, held = map_model(nn.Dense(2)), trained(map_model)
    disk = {"save_checkpoint_dir": tmp_path, "dump_state": True}
    model.train(TRAIN, fit_config=config(1, **(disk if dumped == "fit" else {})))
    model.calibrate(CALIB, VAL, calib(**(disk if dumped == "calibration" else {})))
    held.calibrate(CALIB, VAL, calib())
    state = model.posterior.state
    assert state.get() is not state.get()
    assert same_tree(state.get().calib_params, held.posterior.state.get().calib_params)
    assert same_tree(state.get().params, held.posterior.state.get().params)
    # Loading without the calibrator would leave it out.
    assert (state.get().calib_params is not None) and not state.is_empty


def test_training_and_calibrating_in_one_go_keeps_the_state_on_the_disk(tmp_path):
    model, held = map_model(nn.Dense(2)), map_model(nn.Dense(2))
    kept = config(1, save_checkpoint_dir=tmp_path, dump_state=True)
    model.train(TRAIN, calib_data_loader=CALIB, fit_config=kept, calib_config=calib())
    held.train(TRAIN, calib_data_loader=CALIB, fit_config=config(1), calib_config=calib())
    states = [model.posterior.state.get() for model in (model, held)]
    assert states[0] is not model.posterior.state.get()
    assert same_tree(*((state.params, state.calib_params) for state in states))
    # A failure of the next calibration leaves the state on the disk as it was.
    nothing = DataLoader.from_array_data((X * np.nan, Y), batch_size=12)
    with pytest.raises(ValueError, match="hold nan"):
        model.train(TRAIN, calib_data_loader=nothing, fit_config=kept, calib_config=calib())
    assert same_tree(states[0].calib_params, model.posterior.state.get().calib_params)


@pytest.mark.parametrize("make", [CalibCheckpointer])
def test_what_writes_needs_a_folder(make):
    for arguments in ({"save_every_n_steps": 3}, {"dump_state": True}):
        with pytest.raises(ValueError, match="no save_checkpoint_dir"):
            make(**arguments)


def test_another_optimiser_starts_anew(tmp_path):
    trained(map_model).calibrate(CALIB, VAL, calib(save_checkpoint_dir=tmp_path))
    from checkpoint_problems import SGD

    restored = calib(method=SGD, restore_checkpoint_path=tmp_path)
    with pytest.warns(UserWarning, match="its optimiser was another one"):
        status = trained(map_model).calibrate(CALIB, VAL, restored)
    assert len(status["loss"]) == 4 and ADAM is not SGD
