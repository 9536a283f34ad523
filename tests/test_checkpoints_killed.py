"""A training that is killed at any moment goes on from a whole checkpoint to the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoint_problems import TRAIN, VAL, config, map_model, right, same_run

from hoarfrost.training import checkpoint

EPOCHS, STEPS = 6, 30
SETTINGS = {"monitor": {"metrics": (right,), "early_stopping_patience": 50}, "steps": 2}

TRAINS = """
import sys, time
import jax
# As in the other tests: programs of another kind give other bits.
jax.config.update("jax_disable_most_optimizations", True)
from checkpoint_problems import TRAIN, VAL, config, map_model, right
from hoarfrost.prob_model import FitCallback

class Tells(FitCallback):
    def training_step_end(self, state):
        print(int(state.step), flush=True)
        time.sleep(0.01)
        return state

settings = {"monitor": {"metrics": (right,), "early_stopping_patience": 50}, "steps": 2}
map_model().train(TRAIN, VAL, fit_config=config(
    6, save_checkpoint_dir=sys.argv[1], save_every_n_steps=2, callbacks=[Tells()], **settings
))
"""


def pytest_generate_tests(metafunc):
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("--kills")))


@pytest.fixture(scope="module")
def unbroken():
    model = map_model()
    return model, model.train(TRAIN, VAL, fit_config=config(EPOCHS, **SETTINGS))["fit_status"]


def kill(folder, moment):
    """Train in another process and kill it, somewhere after a step that the moment chooses."""
    chance = random.Random(moment)
    step, more = chance.randint(2, STEPS), chance.uniform(0, 0.1)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-W", "error", "-c", TRAINS, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == step:
                break
        time.sleep(more)
        process.send_signal(signal.SIGKILL)
    return process.returncode


def test_nothing_is_lost(moment, unbroken, tmp_path):
    whole, status = unbroken
    folder = tmp_path / "checkpoints"
    code = kill(folder, moment)
    assert code in (-signal.SIGKILL, 0)
    found = checkpoint.find(str(folder), ("map",))
    # Whatever was being written, what has the name of a checkpoint is whole.
    for one in folder.iterdir():
        if one.name.startswith("map"):
            checkpoint.load(str(one), ("map",))
    facts = json.loads((found / checkpoint.HEADER).read_text())["facts"]
    model = map_model(seed=9)
    left = EPOCHS - facts["epochs"]
    kept = {"save_checkpoint_dir": folder, "save_every_n_steps": 7}
    if not left:  # it was killed when all was done
        model.load_state(folder)
        assert int(model.posterior.state.get().step) > 0
        return
    restored = config(left, restore_checkpoint_path=folder, **kept, **SETTINGS)
    other = model.train(TRAIN, VAL, fit_config=restored)["fit_status"]
    assert same_run(whole, model, status, other)
    assert not [one for one in os.listdir(folder) if one.startswith(".")]
    assert len(os.listdir(folder)) == 2
