"""Training that goes on from a checkpoint: the bits of a run that was never interrupted."""

from __future__ import annotations

import os

import jax
import numpy as np
import optax
import pytest
from checkpoint_problems import (
    ADAM,
    SGD,
    TRAIN,
    VAL,
    X,
    Y,
    at_step,
    config,
    laplace_model,
    map_model,
    recorded,
    right,
    same_run,
    same_tree,
)
from flax import linen as nn
from flax import nnx
from versions import enable_x64

from hoarfrost.data import DataLoader
from hoarfrost.errors import CheckpointAccessError, CheckpointError, DataError, InvalidArgumentError
from hoarfrost.prob_model import FitCallback, FitCheckpointer, ProbRegressor

METRICS = {"metrics": (right,)}
STOPPING = {"early_stopping_patience": 2, **METRICS}
TRACED = optax.chain(optax.trace(0.9), optax.scale_by_schedule(lambda n: -1e-3 / (1 + n)))
RUNS = {
    "adam": {},
    "momentum and a schedule": {"method": TRACED},
    "metrics": {"monitor": METRICS},
    "early stopping": {"monitor": STOPPING, "method": optax.adam(0.3)},
    "every second epoch": {"monitor": {**STOPPING, "eval_every_n_epochs": 2}},
    "accumulation": {"steps": 2},
    "frozen": {"freeze_fun": ["head"]},
    "no state": {"method": optax.sgd(1e-2)},
}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.mark.filterwarnings("ignore:freeze_fun of a MAP run")
@pytest.mark.parametrize("name", RUNS)
def test_five_and_five_epochs_are_ten(name, folder):
    settings = RUNS[name]
    whole, first, second = map_model(), map_model(), map_model()
    status = whole.train(TRAIN, VAL, fit_config=config(10, **settings))["fit_status"]
    kept = config(5, save_checkpoint_dir=folder, **settings)
    reached = first.train(TRAIN, VAL, fit_config=kept)["fit_status"]
    restored = config(5, restore_checkpoint_path=folder, **settings)
    other = second.train(TRAIN, VAL, fit_config=restored)["fit_status"]
    assert same_run(whole, second, status, other)
    assert other["start"]["epochs"] == len(reached["loss"])
    assert (len(reached["loss"]) < 5 or len(status["loss"]) < 10) == (name == "early stopping")


@pytest.mark.parametrize("name", ["adam", "metrics", "early stopping", "accumulation", "frozen"])
@pytest.mark.filterwarnings("ignore:freeze_fun of a MAP run")
def test_a_broken_epoch_is_finished_first(name, folder):
    settings = {**RUNS[name], "method": ADAM}
    whole = map_model()
    kept = config(4, save_checkpoint_dir=folder, save_every_n_steps=1, **settings)
    kept = config(
        4, save_checkpoint_dir=folder, save_every_n_steps=1, keep_top_n_checkpoints=30, **settings
    )
    status = whole.train(TRAIN, VAL, fit_config=kept)["fit_status"]
    steps = range(1, len(status["loss"]) * 5 + 1)
    if "steps" in settings:  # those of a checkpoint end an update
        steps = [step for step in steps if step % 5 in (2, 4, 0)]
    # That of the last step, and when all is done.
    assert len(os.listdir(folder)) == len(steps) + 1
    for step in [step for step in (1, 2, 3, 5, 8, 9, 12) if step in steps]:
        second = map_model(seed=7)  # the keys are those of the checkpoint
        left = 4 - (step - 1) // 5
        restored = config(left, restore_checkpoint_path=at_step(folder, step), **settings)
        other = second.train(TRAIN, VAL, fit_config=restored)["fit_status"]
        assert same_run(whole, second, status, other), step


def test_a_state_that_was_saved_by_hand_goes_on_too(folder):
    whole, first, second = map_model(), map_model(), map_model()
    status = whole.train(TRAIN, fit_config=config(4))["fit_status"]
    first.train(TRAIN, fit_config=config(2))
    first.save_state(folder)
    # The optimiser's state comes through another model's hands, and another file.
    second.load_state(folder)
    second.save_state(folder)
    other = map_model()
    restored = config(2, restore_checkpoint_path=folder)
    assert same_run(whole, other, status, other.train(TRAIN, fit_config=restored)["fit_status"])


class Held(nnx.Module):
    """An NNX module with every kind of state."""

    def __init__(self, rngs):
        self.layers = getattr(nnx, "List", list)(
            [nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.drop(self.norm(self.layers[0](x))))


def test_nnx_modules_with_numbers_as_keys_and_random_state(folder):
    def make():
        return map_model(Held(nnx.Rngs(0)))

    whole, first, second = make(), make(), make()
    status = whole.train(TRAIN, fit_config=config(4))["fit_status"]
    first.train(TRAIN, fit_config=config(2, save_checkpoint_dir=folder, save_every_n_steps=3))
    other = second.train(TRAIN, fit_config=config(2, restore_checkpoint_path=folder))
    assert same_run(whole, second, status, other["fit_status"])
    third = make()
    third.train(TRAIN, fit_config=config(3, restore_checkpoint_path=at_step(folder, 9)))
    assert same_tree(whole.posterior.state.get().params, third.posterior.state.get().params)
    loaded = make()
    loaded.load_state(folder)
    assert same_tree(first.posterior.state.get().mutable, loaded.posterior.state.get().mutable)


def test_a_regressor_with_two_networks(folder):
    def make():
        from hoarfrost.prob_model import MAPPosteriorApproximator

        approximator = MAPPosteriorApproximator()
        return ProbRegressor(nn.Dense(1), nn.Dense(1), posterior_approximator=approximator)

    data = DataLoader.from_array_data((X, X[:, :1]), batch_size=8, shuffle=True)
    whole, first, second = make(), make(), make()
    status = whole.train(data, fit_config=config(4, monitor=METRICS))["fit_status"]
    kept = config(2, monitor=METRICS, save_checkpoint_dir=folder, save_every_n_steps=6)
    first.train(data, fit_config=kept)
    restored = config(3, monitor=METRICS, restore_checkpoint_path=at_step(folder, 6))
    other = second.train(data, fit_config=restored)["fit_status"]
    assert same_run(whole, second, status, other)


class Wide(nn.Module):
    """Parameters and statistics in a dtype of their own."""

    dtype: str

    @nn.compact
    def __call__(self, x, train=False):
        kinds = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.Dense(3, **kinds)(x)
        x = nn.BatchNorm(use_running_average=not train, **kinds)(x)
        return nn.Dense(2, **kinds)(nn.tanh(x))


def check_dtype(dtype, folder):
    def make():
        return map_model(Wide(dtype))

    whole, second = make(), make()
    status = whole.train(TRAIN, VAL, fit_config=config(3, steps=2))["fit_status"]
    kept = config(2, steps=2, save_checkpoint_dir=folder, save_every_n_steps=7)
    make().train(TRAIN, VAL, fit_config=kept)
    restored = config(2, steps=2, restore_checkpoint_path=at_step(folder, 7))
    other = second.train(TRAIN, VAL, fit_config=restored)["fit_status"]
    assert same_run(whole, second, status, other)
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(second.posterior.state.get().params)}
    assert kinds == {dtype}


def test_half_precision(folder):
    check_dtype("bfloat16", folder)


def test_double_precision(folder, x64):
    check_dtype("float64", folder)


def test_double_precision_that_is_taken_up_without_it_says_so(folder):
    with enable_x64(True):
        kept = config(2, save_checkpoint_dir=folder, save_every_n_steps=7)
        map_model(Wide("float64")).train(TRAIN, fit_config=kept)
    jax.clear_caches()
    model = map_model(Wide("float32"))
    with (
        pytest.warns(UserWarning, match="holds numbers in float64, .* set to 32 bits"),
        pytest.warns(UserWarning, match="optimiser's state is that of other trainable"),
    ):
        model.train(TRAIN, fit_config=config(1, restore_checkpoint_path=folder))
    with (
        pytest.warns(UserWarning, match="holds numbers in float64"),
        pytest.warns(UserWarning, match="optimiser's state"),
        pytest.raises(CheckpointError, match=r"middle of an epoch with other .*jax_enable_x64"),
    ):
        model.train(TRAIN, fit_config=config(1, restore_checkpoint_path=at_step(folder, 7)))


COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILED.append(name) if "backend_compile" in name else None
)


def test_nothing_is_compiled_again(folder):
    kept = config(2, save_checkpoint_dir=folder, save_every_n_steps=7, keep_top_n_checkpoints=9)
    map_model().train(TRAIN, VAL, fit_config=kept)
    for path in (folder / "map_2_step_10", folder / "map_1_step_7"):
        restored = config(2, restore_checkpoint_path=path)
        map_model().train(TRAIN, VAL, fit_config=restored)
        before = len(COMPILED)
        map_model().train(TRAIN, VAL, fit_config=restored)
        map_model().train(TRAIN, VAL, fit_config=kept)
        assert len(COMPILED) == before


def test_ctrl_c_while_a_checkpoint_is_written(folder, monkeypatch):
    from hoarfrost.training import checkpoint

    write, calls = checkpoint._write_arrays, []

    def interrupted(place, arrays):
        write(place, arrays)
        calls.append(place)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_write_arrays", interrupted)
    model = map_model()
    with pytest.raises(KeyboardInterrupt):
        model.train(TRAIN, fit_config=config(2, save_checkpoint_dir=folder, save_every_n_steps=2))
    assert sorted(os.listdir(folder)) == ["map_1_step_2", "map_2_step_4"]
    model.load_state(folder)


class Counts(FitCallback):
    def __init__(self):
        self.starts = self.steps = 0

    def training_epoch_start(self, state):
        self.starts += 1
        return state

    def training_step_end(self, state):
        self.steps += 1
        return state


def test_callbacks_see_what_is_left(folder):
    map_model().train(TRAIN, fit_config=config(2, save_checkpoint_dir=folder, save_every_n_steps=8))
    counts = Counts()
    restored = config(2, restore_checkpoint_path=at_step(folder, 8), callbacks=[counts])
    map_model().train(TRAIN, fit_config=restored)
    assert (counts.starts, counts.steps) == (1, 7)


def test_what_early_stopping_ended_stays_ended_and_its_best_is_loaded(folder):
    monitor = {"early_stopping_patience": 1, "early_stopping_min_delta": 1e9}
    first, loaded = map_model(), map_model()
    kept = config(9, monitor=monitor, save_checkpoint_dir=folder)
    status = first.train(TRAIN, VAL, fit_config=kept)["fit_status"]
    assert len(status["loss"]) == 2
    loaded.load_state(folder)
    best, state = first.posterior.state.get(), loaded.posterior.state.get()
    assert same_tree((best.params, best.mutable), (state.params, state.mutable))
    assert int(best.step) == int(state.step) == 5 and state.opt_state is None
    # Without the rule the run goes on from its last state, not from its best.
    whole, second = map_model(), map_model()
    whole.train(TRAIN, VAL, fit_config=config(3))
    second.train(TRAIN, VAL, fit_config=config(1, restore_checkpoint_path=folder))
    assert same_tree(whole.posterior.state.get().params, second.posterior.state.get().params)


def test_metrics_that_a_checkpoint_lacks_are_nan_with_a_warning(folder):
    map_model().train(TRAIN, fit_config=config(2, save_checkpoint_dir=folder, save_every_n_steps=3))
    restored = config(2, monitor=METRICS, restore_checkpoint_path=at_step(folder, 9))
    with pytest.warns(UserWarning, match="no metrics of the epoch that had begun, which are NaN"):
        status = map_model().train(TRAIN, fit_config=restored)["fit_status"]
    assert np.isnan(status["right"][0]) and np.isfinite(status["right"][1])
    assert len(status["loss"]) == 3


OTHERS = {
    "another optimiser": ({"method": SGD}, "optimiser was another one"),
    "another kind of the same shape": ({"method": optax.adamw(1e-2)}, "optimiser was another one"),
    "other trainable parameters": ({"freeze_fun": ["head"]}, "of other trainable parameters"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_optimiser_that_does_not_fit_starts_anew_with_a_warning(name, folder):
    settings, message = OTHERS[name]
    first, second = map_model(), map_model()
    first.train(TRAIN, fit_config=config(1, save_checkpoint_dir=folder))
    restored = config(1, restore_checkpoint_path=folder, **settings)
    with pytest.warns(UserWarning, match=f"not all of the checkpoint could be used.*{message}"):
        status = second.train(TRAIN, fit_config=restored)["fit_status"]
    assert any(message in one for one in status["start"]["not_resumed"])
    assert len(status["loss"]) == 2 and int(second.posterior.state.get().step) == 10
    # The parameters are those of the checkpoint, trained on in the order of the second epoch.
    own, start = second.posterior.state.get().params, first.posterior.state.get().params
    if "freeze_fun" in settings:
        body = "model", "params", "body", "kernel"
        for name in body:
            own, start = own[name], start[name]
        assert same_tree(own, start)
    else:
        assert not same_tree(own, start)


def test_parameters_alone_start_the_optimiser_anew(folder):
    first = map_model()
    first.train(TRAIN, fit_config=config(1))
    first.load_params(first.posterior.state.get().params, first.posterior.state.get().mutable)
    first.save_state(folder)
    with pytest.warns(UserWarning, match="it holds no state of the optimiser"):
        status = map_model().train(TRAIN, fit_config=config(1, restore_checkpoint_path=folder))
    assert len(status["fit_status"]["loss"]) == 1


def test_another_early_stopping_starts_anew_with_a_warning(folder):
    kept = config(1, monitor=STOPPING, save_checkpoint_dir=folder)
    map_model().train(TRAIN, VAL, fit_config=kept)
    monitor = {**STOPPING, "early_stopping_monitor": "val_right", "mode": "max"}
    restored = config(1, monitor=monitor, restore_checkpoint_path=folder)
    with pytest.warns(UserWarning, match="its early stopping watched something else"):
        map_model().train(TRAIN, VAL, fit_config=restored)


def test_other_data_in_a_broken_epoch_is_an_error(folder):
    kept = config(1, save_checkpoint_dir=folder, save_every_n_steps=3)
    map_model().train(TRAIN, fit_config=kept)
    restored = config(1, restore_checkpoint_path=at_step(folder, 3))
    for data in ((X[:22], Y[:22], 4), (X[:8], Y[:8], 5)):
        loader = DataLoader.from_array_data(data[:2], batch_size=data[2])
        with pytest.raises(DataError, match="first 3 batches do not hold the 15 points"):
            map_model().train(loader, fit_config=restored)


@pytest.mark.parametrize("make", [map_model, laplace_model], ids=["map", "laplace"])
def test_parameters_that_do_not_fit_are_an_error_that_names_the_place(make, folder):
    from checkpoint_problems import Net

    map_model().train(TRAIN, fit_config=config(1, save_checkpoint_dir=folder))
    restored = config(1, restore_checkpoint_path=folder)
    message = r"'model/params/BatchNorm_0/bias' it has shape \(4,\), and the model has shape \(5,\)"
    model = make(Net(5))
    with pytest.raises(CheckpointError, match=message):
        model.train(TRAIN, fit_config=restored)
    with pytest.raises(CheckpointError, match=message):
        model.load_state(folder)
    assert model.posterior.state.is_empty
    with pytest.raises(CheckpointError, match=r"cannot take the inputs|has nothing|has shape"):
        make(nn.Dense(2)).load_state(folder)


def test_the_restore_path_wins_over_the_current_state(folder):
    first, second, alone = map_model(), map_model(seed=3), map_model()
    first.train(TRAIN, fit_config=config(1, save_checkpoint_dir=folder))
    second.train(TRAIN, fit_config=config(3))
    both = config(1, restore_checkpoint_path=folder, start_from_current_state=True)
    with pytest.warns(UserWarning, match="starts from the checkpoint .* not use start_from_curr"):
        status = second.train(TRAIN, fit_config=both)["fit_status"]
    assert status["start"]["not_used"] == ("start_from_current_state",)
    alone.train(TRAIN, fit_config=config(1, restore_checkpoint_path=folder))
    assert same_tree(second.posterior.state.get().params, alone.posterior.state.get().params)


def test_relative_paths_are_those_of_the_moment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = config(1, save_checkpoint_dir="here/there")
    model = map_model()
    status = model.train(TRAIN, fit_config=settings)["fit_status"]
    assert os.path.isabs(status["checkpoint"]) and os.path.isdir("here/there")
    loaded = map_model()
    loaded.load_state("here/there")
    loaded.load_state(os.path.join("here", "there", os.listdir("here/there")[0]))
    assert same_tree(loaded.posterior.state.get().params, model.posterior.state.get().params)
    loaded.save_state("elsewhere")
    map_model().train(TRAIN, fit_config=config(1, restore_checkpoint_path="elsewhere"))


def test_a_state_that_is_on_the_disk_is_read_back(folder, tmp_path):
    kept = config(1, save_checkpoint_dir=folder, dump_state=True)
    model, held = map_model(), map_model()
    held.train(TRAIN, fit_config=config(1))
    model.train(TRAIN, fit_config=kept)
    state, own = held.posterior.state.get(), model.posterior.state.get()
    assert same_tree((state.params, state.mutable), (own.params, own.mutable))
    assert (
        own.params is not model.posterior.state.get().params and not model.posterior.state.is_empty
    )
    probabilities = model.predictive.log_prob(TRAIN, rng=jax.random.PRNGKey(0))
    assert same_tree(probabilities, held.predictive.log_prob(TRAIN, rng=jax.random.PRNGKey(0)))
    before = sorted(folder.rglob("*"))
    times = [path.stat().st_mtime_ns for path in before]
    model.train(TRAIN, fit_config=config(1, start_from_current_state=True))
    assert sorted(folder.rglob("*")) == before
    assert [path.stat().st_mtime_ns for path in before] == times
    model.train(TRAIN, fit_config=kept)
    folder.rename(tmp_path / "moved")
    with pytest.raises(CheckpointAccessError, match="there is nothing at"):
        model.posterior.state.get()


class Raises(FitCallback):
    def __init__(self, after, error):
        self.after, self.error = after, error

    def training_step_end(self, state):
        self.after -= 1
        if not self.after:
            raise self.error
        return state


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_leaves_the_last_whole_checkpoint(error, folder):
    whole, second = map_model(), map_model()
    kept = config(3, save_checkpoint_dir=folder, save_every_n_steps=2, callbacks=[Raises(9, error)])
    with pytest.raises(error):
        map_model().train(TRAIN, fit_config=kept)
    assert sorted(os.listdir(folder)) == ["map_3_step_6", "map_4_step_8"]
    status = whole.train(TRAIN, fit_config=config(3))["fit_status"]
    restored = config(2, restore_checkpoint_path=folder)
    assert same_run(whole, second, status, second.train(TRAIN, fit_config=restored)["fit_status"])


def test_a_checkpoint_that_cannot_be_written_costs_no_epoch(folder, monkeypatch):
    from hoarfrost.training import checkpoint

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_write_arrays", full)
    model, whole = map_model(), map_model()
    with pytest.raises(CheckpointAccessError, match="No space left") as caught:
        model.train(TRAIN, fit_config=config(2, save_checkpoint_dir=folder))
    assert "the parameters after epoch 2" in "".join(caught.value.__notes__)
    whole.train(TRAIN, fit_config=config(2))
    assert same_tree(model.posterior.state.get().params, whole.posterior.state.get().params)
    assert os.listdir(folder) == []


def test_folders_are_looked_at_before_the_work(tmp_path):
    (tmp_path / "file").write_text("of the user")
    settings = config(10**6, save_checkpoint_dir=tmp_path / "file" / "below")
    with pytest.raises(CheckpointAccessError, match="cannot be made"):
        map_model().train(TRAIN, fit_config=settings)
    with pytest.raises(CheckpointAccessError, match="there is nothing at"):
        map_model().train(TRAIN, fit_config=config(10**6, restore_checkpoint_path=tmp_path / "no"))


@pytest.mark.parametrize("arguments", [{"save_every_n_steps": 3}, {"dump_state": True}])
def test_what_writes_needs_a_folder(arguments):
    (name,) = arguments
    with pytest.raises(InvalidArgumentError, match=f"{name} is .*no save_checkpoint_dir to write"):
        FitCheckpointer(**arguments)


def test_what_is_recorded_holds_all_epochs(folder):
    first, second = map_model(), map_model()
    kept = config(2, monitor=METRICS, save_checkpoint_dir=folder)
    status = recorded(first.train(TRAIN, VAL, fit_config=kept)["fit_status"])
    restored = config(1, monitor=METRICS, restore_checkpoint_path=folder)
    other = second.train(TRAIN, VAL, fit_config=restored)["fit_status"]
    for name, values in status.items():
        assert len(other[name]) == 3
        assert other[name].dtype == values.dtype
        np.testing.assert_array_equal(other[name][:2], values)
    assert other["start"]["from"] == "checkpoint" and other["start"]["step"] == 10
