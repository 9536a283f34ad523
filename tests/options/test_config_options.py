"""Every argument of the configurations of training and calibration."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from entries import (
    Elsewhere,
    Entry,
    Other,
    Pair,
    Refused,
    Subject,
    built,
    cases,
    check,
    table,
)
from on_disk import after_a_calibration, in_a_folder
from problems import (
    ADAM,
    AT_MAP,
    CLASSES,
    SGD,
    calib,
    classifier,
    config,
    fitted,
    head_only,
    key,
    shown_by,
)

from hoarfrost import prob_model
from hoarfrost.data import DataLoader
from hoarfrost.predictive import classes

FOLDER = {"save_checkpoint_dir": "folder"}
OFTEN = {**FOLDER, "save_every_n_steps": 1}
DISK: dict[str, Entry] = {
    "save_checkpoint_dir": Other("folder"),
    "restore_checkpoint_path": Other("made"),
    "save_every_n_steps": Pair(FOLDER, OFTEN),
    "dump_state": Pair(FOLDER, {**FOLDER, "dump_state": True}),
    "keep_top_n_checkpoints": Pair(OFTEN, {**OFTEN, "keep_top_n_checkpoints": 3}),
}


class Stopped(Exception):
    pass


def run_where(calibrates: bool) -> Callable[..., Any]:
    """What JAX's options are while a fit reads its data, which is where it is stopped."""

    def run(processor: Any) -> Any:
        seen: list[Any] = []

        def data() -> Any:
            seen.append((str(jax.config.jax_default_device), jax.config.jax_disable_jit))
            raise Stopped

        loader = DataLoader.from_callable_iterable(data)
        with pytest.raises(Stopped):
            if calibrates:
                fitted("map").calibrate(loader, calib_config=calib(processor=processor))
            else:
                model = classifier(posterior_approximator=AT_MAP)
                model.train(loader, fit_config=config(processor=processor))
        return seen

    return run


def run_cached(cache_features: Any) -> Any:
    """What a short run of the head says of features."""
    model = classifier(posterior_approximator=AT_MAP)
    model.train(CLASSES, fit_config=config())
    status = model.train(
        CLASSES,
        fit_config=config(
            optimizer=prob_model.FitOptimizer(method=ADAM, n_epochs=2, freeze_fun=head_only),
            checkpointer=prob_model.FitCheckpointer(start_from_current_state=True),
            processor=prob_model.FitProcessor(cache_features=cache_features),
        ),
    )
    return sorted(status["fit_status"])


class Halved(prob_model.FitCallback):
    def training_epoch_end(self, state: Any) -> Any:
        return state.replace(params=jax.tree.map(lambda leaf: leaf / 2, state.params))


def run_map(**parts: Any) -> Any:
    """MAP training: its status, parameters and whether anything was shown."""
    settings = config(**parts)
    model = classifier(posterior_approximator=AT_MAP)
    if settings.checkpointer.start_from_current_state:
        model.posterior.state.put(fitted("map").posterior.state.get())
    status, shown = shown_by(lambda: model.train(CLASSES, CLASSES, fit_config=settings))
    return status, model.posterior.state.get().params, shown, in_memory(model)


def in_memory(model: Any) -> bool:
    """Whether the state is held, and not read at every call."""
    return model.posterior.state.get() is model.posterior.state.get()


def run_rising(mode: str) -> Any:
    """The parameters that are best by a value that rises from epoch to epoch."""
    monitor = prob_model.FitMonitor(
        metrics=(rising,),
        early_stopping_patience=9,
        early_stopping_monitor="val_rising",
        verbose=False,
        mode=mode,
    )
    return run_map(monitor=monitor)[1]


def run_frozen(freeze_fun: Any) -> Any:
    """MAP training that goes on with part of the parameters frozen."""
    on = prob_model.FitCheckpointer(start_from_current_state=True)
    optimizer = prob_model.FitOptimizer(method=ADAM, n_epochs=2, freeze_fun=freeze_fun)
    return run_map(optimizer=optimizer, checkpointer=on)


def run_with_draws(n_posterior_samples: int) -> Any:
    """Calibration of a model whose posterior is no point."""
    processor = prob_model.CalibProcessor(n_posterior_samples=n_posterior_samples)
    return run_calibration("classifier", processor=processor)


def run_calibration(kind: str = "map", **parts: Any) -> Any:
    """Calibration: its status, its result, and whether anything was shown."""
    model = fitted(kind)
    state = model.posterior.state.get()
    try:
        model.rng._key = key(5)
        status, shown = shown_by(lambda: model.calibrate(CLASSES, CLASSES, calib(**parts)))
        return status, model.posterior.state.get().calib_params, shown, in_memory(model)
    finally:
        model.posterior.state.put(state)


def configured(cls: Any, part: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` under a configuration, one part of which is made with the arguments."""
    fixed = {"verbose": False} if "verbose" in inspect.signature(cls).parameters else {}
    if "method" in inspect.signature(cls).parameters:
        fixed = {"method": ADAM, "n_epochs": 2}
    return lambda **arguments: run(**{part: cls(**{**fixed, **arguments})})


def error_rate(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.mean(predictions != targets)


def rising(predictions: jax.Array, targets: jax.Array) -> int:
    """One more at every call."""
    return next(COUNTER)


COUNTER = itertools.count()


def constant(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.zeros(())


def uncertain(predictions: Any, uncertainties: Any, targets: Any) -> Any:
    return jnp.mean(uncertainties)


def of_configs() -> Iterator[tuple[str, Subject]]:
    stop = {"early_stopping_patience": 1, "early_stopping_min_delta": 100.0}
    by_uncertain = {"early_stopping_patience": 9, "early_stopping_monitor": "val_uncertain"}
    five = config(5).optimizer
    fit: dict[str, tuple[str, dict[str, Any], dict[str, Entry]]] = {
        "FitOptimizer": (
            "optimizer",
            {},
            {
                "method": Other(SGD),
                "n_epochs": Other(3),
                "freeze_fun": Elsewhere(run_frozen, None, head_only),
            },
        ),
        "FitCheckpointer": (
            "checkpointer",
            {},
            {**DISK, "start_from_current_state": Other(True)},
        ),
        "FitMonitor": (
            "monitor",
            {},
            {
                "metrics": Other((error_rate,)),
                "early_stopping_patience": Pair(
                    {"early_stopping_min_delta": 100.0},
                    {"early_stopping_min_delta": 100.0, "early_stopping_patience": 1},
                ),
                "early_stopping_monitor": Pair(
                    {"metrics": (constant,), "early_stopping_patience": 1},
                    {
                        "metrics": (constant,),
                        "early_stopping_patience": 1,
                        "early_stopping_monitor": "val_constant",
                    },
                ),
                "early_stopping_min_delta": Pair({"early_stopping_patience": 1}, stop),
                "eval_every_n_epochs": Other(2),
                "disable_training_metrics_computation": Pair(
                    {"metrics": (error_rate,)},
                    {"metrics": (error_rate,), "disable_training_metrics_computation": True},
                ),
                "verbose": Other(True),
                "mode": Elsewhere(run_rising, "min", "max"),
            },
        ),
        "FitHyperparameters": (
            "hyperparameters",
            {},
            {"max_grad_norm": Other(1e-6), "gradient_accumulation_steps": Other(2)},
        ),
    }
    for name, (part, base, entries) in fit.items():
        run = configured(getattr(prob_model, name), part, run_map)
        if name == "FitCheckpointer":
            run = in_a_folder(run)
        yield built(name, run, base, **entries)
    yield built(
        "FitConfig",
        lambda **given: run_map(**given),
        {},
        optimizer=Other(five),
        checkpointer=Other(prob_model.FitCheckpointer(start_from_current_state=True)),
        monitor=Other(prob_model.FitMonitor(verbose=False, metrics=(error_rate,))),
        processor=Elsewhere(
            run_where(calibrates=False),
            prob_model.FitProcessor(),
            prob_model.FitProcessor(disable_jit=True),
        ),
        hyperparameters=Other(prob_model.FitHyperparameters(max_grad_norm=1e-6)),
        callbacks=Other([Halved()]),
    )
    both = {"metrics": (uncertain,)}
    calibration: dict[str, tuple[str, dict[str, Any], dict[str, Entry]]] = {
        "CalibOptimizer": ("optimizer", {}, {"method": Other(SGD), "n_epochs": Other(3)}),
        "CalibCheckpointer": ("checkpointer", {}, DISK),
        "CalibMonitor": (
            "monitor",
            {},
            {
                "metrics": Other((uncertain,)),
                "uncertainty_fn": Pair(both, {**both, "uncertainty_fn": classes.entropy}),
                "early_stopping_patience": Pair(
                    {"early_stopping_min_delta": 100.0},
                    {"early_stopping_min_delta": 100.0, "early_stopping_patience": 1},
                ),
                "early_stopping_monitor": Pair(
                    {**both, "early_stopping_patience": 1},
                    {
                        **both,
                        "early_stopping_patience": 1,
                        "early_stopping_monitor": "val_uncertain",
                    },
                ),
                "early_stopping_min_delta": Pair({"early_stopping_patience": 1}, stop),
                "eval_every_n_epochs": Other(2),
                "disable_calibration_metrics_computation": Pair(
                    both, {**both, "disable_calibration_metrics_computation": True}
                ),
                "verbose": Other(True),
                "mode": Pair(
                    {**both, **by_uncertain, "mode": "min"},
                    {**both, **by_uncertain, "mode": "max"},
                ),
            },
        ),
    }
    for name, (part, base, entries) in calibration.items():
        run = configured(getattr(prob_model, name), part, run_calibration)
        if name == "CalibCheckpointer":
            run = in_a_folder(after_a_calibration(run))
        yield built(name, run, base, **entries)
    yield built(
        "CalibConfig",
        lambda **given: run_calibration(**given),
        {},
        optimizer=Other(calib(3).optimizer),
        checkpointer=Refused("a folder", "checkpointer must be a CalibCheckpointer"),
        monitor=Other(prob_model.CalibMonitor(verbose=False, metrics=(uncertain,))),
        processor=Elsewhere(
            run_where(calibrates=True),
            prob_model.CalibProcessor(),
            prob_model.CalibProcessor(disable_jit=True),
        ),
    )


def of_processors() -> Iterator[tuple[str, Subject]]:
    acts: dict[str, Entry] = {"devices": Other(0), "disable_jit": Other(True)}
    run = configured(prob_model.FitProcessor, "processor", run_where(calibrates=False))
    caches = Elsewhere(run_cached, True, False)
    yield built("FitProcessor", run, {}, **acts, cache_features=caches)
    samples = Elsewhere(run_with_draws, 2, 5)
    run = configured(prob_model.CalibProcessor, "processor", run_where(calibrates=True))
    yield built("CalibProcessor", run, {}, **acts, n_posterior_samples=samples)


TABLE = table(of_configs(), of_processors())


@pytest.mark.parametrize(("name", "argument"), cases(TABLE))
def test_every_argument_acts(name: str, argument: str) -> None:
    check(name, TABLE[name], argument)
