"""Checkpoints that several devices write and read: nothing of them is stored."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import optax
import pytest
from checkpoint_problems import at_step, right, same_run
from feature_cases import X_NEW, Y_NEW, Net, loader, near

from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
    MAPPosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.training import checkpoint

ADAM = optax.adam(1e-2)
TRAIN, VAL = loader(shuffle=True), loader(X_NEW, Y_NEW)  # 4 steps an epoch


def trained(devices, epochs, norm, **disk):
    module = Net(dropout=0.2, norm=norm)
    front = ProbClassifier(module, posterior_approximator=MAPPosteriorApproximator())
    config = FitConfig(
        optimizer=FitOptimizer(ADAM, epochs),
        monitor=FitMonitor((right,), early_stopping_patience=9, verbose=False),
        processor=FitProcessor(devices=devices),
        hyperparameters=FitHyperparameters(gradient_accumulation_steps=2),
        checkpointer=FitCheckpointer(**disk),
    )
    return front, front.train(TRAIN, VAL, fit_config=config)["fit_status"]


def places(tree):
    """Where the arrays of a tree lie."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return {tuple(sorted(device.id for device in leaf.devices())) for leaf in leaves}


def check(norm):
    """Whole runs, and runs that go on, on four devices and on one."""
    jax.config.update("jax_disable_most_optimizations", True)
    assert jax.local_device_count() == 4
    with tempfile.TemporaryDirectory() as folder:
        wholes = {n: trained(n, 3, norm) for n in (1, -1)}
        for first in (1, -1):
            own = os.path.join(folder, str(first))
            kept = {"save_every_n_steps": 2, "keep_top_n_checkpoints": 20}
            trained(first, 2, norm, save_checkpoint_dir=own, **kept)
            for step, left in ((6, 2), (4, 3)):
                place = at_step(own, step)
                held = checkpoint.load(place, ("map",))
                assert places(held.trees) == {(0,)}
                described = " ".join(
                    file.read_text() for file in Path(place).rglob("*") if text(file)
                )
                assert "NamedSharding" not in described
                for then in (1, -1):
                    front, status = trained(then, left, norm, restore_checkpoint_path=place)
                    whole, expected = wholes[first]
                    if first == then:
                        assert same_run(whole, front, expected, status)
                    states = [one.posterior.state.get() for one in (whole, front)]
                    parts = [(s.params, s.mutable, s.opt_state) for s in states]
                    assert places(parts[1]) == {(0,)}
                    jax.tree.map(near, *parts)
                    for name in ("loss", "val_loss"):
                        near(status[name], expected[name])


def text(file):
    """Whether a file is one of JSON."""
    return file.is_file() and file.name in ("header.json", "_METADATA", "_sharding")


def run(norm):
    """What a process with four devices does."""
    warnings.simplefilter("error")
    check(norm)


@pytest.mark.parametrize("norm", [False, True], ids=["padded", "statistics"])
def test_four_devices(norm):
    flags = "--xla_force_host_platform_device_count=4"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", f"import test_checkpoints_devices as t; t.run({norm})"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
