"""Fit configurations: the names and defaults that users know, and what a wrong argument is told."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import optax
import pytest

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.prob_model.fit_config import (
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
)

CLASSES = [
    FitConfig,
    FitCheckpointer,
    FitHyperparameters,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
]


def squared(preds, targets):
    return (preds - targets) ** 2


def test_defaults():
    config = FitConfig()
    assert config.optimizer.n_epochs == 100
    assert config.optimizer.freeze_fun is None
    assert dataclasses.astuple(config.checkpointer) == (None, None, False, None, 2, False)
    assert dataclasses.astuple(config.monitor) == (None, 0, "val_loss", 0.0, 1, False, True, None)
    assert dataclasses.astuple(config.processor) == (-1, False, "auto")
    assert dataclasses.astuple(config.hyperparameters) == (None, None)
    assert config.callbacks is None


def test_default_optimizer_is_adam_with_rate_one_thousandth():
    # The first step of Adam is the rate itself, whatever the gradient.
    method = FitOptimizer().method
    update, _ = method.update({"w": 3.0}, method.init({"w": 0.0}))
    assert update["w"] == pytest.approx(-1e-3, rel=1e-5)


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (
            FitConfig,
            "optimizer checkpointer monitor processor hyperparameters callbacks",
        ),
        (FitOptimizer, "method n_epochs freeze_fun"),
        (
            FitCheckpointer,
            """save_checkpoint_dir restore_checkpoint_path start_from_current_state
            save_every_n_steps keep_top_n_checkpoints dump_state""",
        ),
        (
            FitMonitor,
            """metrics early_stopping_patience early_stopping_monitor early_stopping_min_delta
            eval_every_n_epochs disable_training_metrics_computation verbose mode""",
        ),
        (FitProcessor, "devices disable_jit cache_features"),
        (FitHyperparameters, "max_grad_norm gradient_accumulation_steps"),
    ],
)
def test_arguments_keep_their_names_and_order(cls, names):
    assert list(inspect.signature(cls).parameters) == names.split()


def test_no_instance_shares_its_parts_with_another():
    one, other = FitConfig(), FitConfig()
    for field in dataclasses.fields(FitConfig):
        if field.name != "callbacks":
            assert getattr(one, field.name) is not getattr(other, field.name)


@pytest.mark.parametrize("cls", CLASSES)
def test_configurations_cannot_be_changed(cls):
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), name, None)


def test_what_is_given_is_kept_as_it_is():
    callbacks = [FitCallback()]
    method = optax.sgd(0.1)
    config = FitConfig(
        FitOptimizer(method, 3, lambda path, value: "frozen"),
        FitCheckpointer(start_from_current_state=True),
        FitMonitor((squared,), 2, "val_squared", 0.1, 2, True, False),
        FitProcessor(0, True),
        FitHyperparameters(1.5, 4),
        callbacks,
    )
    assert config.optimizer.method is method
    assert config.optimizer.freeze_fun(("a",), 0) == "frozen"
    assert config.checkpointer.start_from_current_state is True
    assert config.monitor.metrics == (squared,)
    assert config.callbacks is callbacks
    assert FitMonitor(eval_every_n_epochs=None).eval_every_n_epochs is None
    assert FitMonitor(eval_every_n_epochs=0).eval_every_n_epochs == 0


def test_a_callback_returns_the_state_unless_overridden():
    class Count(FitCallback):
        def training_step_end(self, state):
            return state + 1

    assert Count().training_step_end(1) == 2
    assert Count().training_epoch_start(1) == 1
    assert Count().training_epoch_end(1) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"save_checkpoint_dir": "somewhere"},
        {"restore_checkpoint_path": Path("somewhere")},
        {"save_checkpoint_dir": Path("somewhere"), "save_every_n_steps": 5, "dump_state": True},
    ],
    ids=["save", "restore", "all"],
)
def test_checkpoints_on_disk_are_kept_as_they_are_asked_for(arguments):
    made = FitCheckpointer(**arguments)
    assert {name: getattr(made, name) for name in arguments} == arguments


@pytest.mark.parametrize("arguments", [{"save_every_n_steps": 5}, {"dump_state": True}])
def test_what_needs_a_folder_is_refused_without_one(arguments):
    (name,) = arguments
    with pytest.raises(InvalidArgumentError, match=f"{name} is .*no save_checkpoint_dir.*give one"):
        FitCheckpointer(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FitOptimizer(method=0.1), "method must be an optax optimiser.* it is 0.1"),
        (lambda: FitOptimizer(method=optax.adam), "method must be an optax optimiser"),
        (lambda: FitOptimizer(n_epochs=0), "n_epochs must be an integer of at least 1.* is 0"),
        (lambda: FitOptimizer(n_epochs=2.0), "n_epochs must be an integer"),
        (lambda: FitOptimizer(n_epochs=True), "n_epochs must be an integer"),
        (lambda: FitOptimizer(freeze_fun="l3"), "freeze_fun must be a function .* it is 'l3'"),
        (lambda: FitCheckpointer(start_from_current_state=1), "start_from_current_state must be"),
        (lambda: FitCheckpointer(keep_top_n_checkpoints=0), "keep_top_n_checkpoints must be an"),
        (lambda: FitMonitor(metrics=[squared]), r"metrics must be a tuple .*\(accuracy,\)"),
        (lambda: FitMonitor(metrics=squared), "metrics must be a tuple"),
        (lambda: FitMonitor(metrics=(squared, 3)), r"metrics\[1\] must be a function.* is 3"),
        (lambda: FitMonitor(metrics=(squared, squared)), "metrics must be functions of different"),
        (lambda: FitMonitor(metrics=(FitNameless(),)), r"metrics\[0\] must be .* __name__"),
        (lambda: FitMonitor(early_stopping_patience=-1), "early_stopping_patience must be"),
        (
            lambda: FitMonitor(early_stopping_monitor="val_acc"),
            "early_stopping_monitor must be one of val_loss, but it is 'val_acc'",
        ),
        (lambda: FitMonitor(early_stopping_min_delta=-0.1), "early_stopping_min_delta must be"),
        (lambda: FitMonitor(eval_every_n_epochs=-1), "eval_every_n_epochs must be an integer"),
        (
            lambda: FitMonitor(early_stopping_patience=2, eval_every_n_epochs=0),
            "no evaluation to stop by; give eval_every_n_epochs=1",
        ),
        (
            lambda: FitMonitor(disable_training_metrics_computation=None),
            "disable_training_metrics_computation must be True or False",
        ),
        (lambda: FitMonitor(verbose="no"), "verbose must be True or False, but it is 'no'"),
        (lambda: FitProcessor(devices=-2), r"devices must be -1 .*, 0 \(the CPU\) .* is -2"),
        (lambda: FitProcessor(disable_jit=1), "disable_jit must be True or False"),
        (
            lambda: FitHyperparameters(max_grad_norm=0),
            "max_grad_norm must be .* above 0.* None clips nothing",
        ),
        (lambda: FitHyperparameters(max_grad_norm=float("nan")), "max_grad_norm must be a finite"),
        (lambda: FitHyperparameters(gradient_accumulation_steps=0), "gradient_accumulation_steps"),
        (lambda: FitConfig(FitMonitor()), "optimizer must be a FitOptimizer, but it is FitMonitor"),
        (lambda: FitConfig(monitor=None), "monitor must be a FitMonitor, but it is None"),
        (lambda: FitConfig(callbacks=FitCallback()), "callbacks must be a list of FitCallback"),
        (lambda: FitConfig(callbacks=[squared]), r"callbacks\[0\] must be an object of a FitCall"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call()


class FitNameless:
    """A callable without a name."""

    def __call__(self, preds, targets):
        return 0.0


def test_importing_and_configuring_starts_no_device():
    code = (
        "from hoarfrost import data, metric\n"
        "from hoarfrost.prob_model.fit_config import FitConfig\n"
        "FitConfig()\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, xla_bridge._backends\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_optimiser_is_one_object_so_that_its_steps_compile_once():
    assert FitOptimizer().method is FitOptimizer(n_epochs=3).method
