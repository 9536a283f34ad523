"""Calls that write to disk or read from there, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

import jax
from problems import AT_MAP, CLASSES, calib, classifier, fitted

from hoarfrost import prob_model


def in_a_folder(run: Callable[..., Any]) -> Callable[..., Any]:
    """The result of a call and what it wrote; checkpoints of a MAP are in "made" and "other"."""

    def wrapped(**given: Any) -> Any:
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            fitted("map").save_state("made")
            doubled().save_state("other")
            result = without_places(run(**given))
            return result, {name: sorted(os.listdir(name)) for name in sorted(os.listdir("."))}

    return wrapped


def doubled() -> Any:
    """A model that holds twice the parameters of the one that is trained."""
    model = classifier(posterior_approximator=AT_MAP)
    params = fitted("map").posterior.state.get().params
    model.load_params(jax.tree.map(lambda leaf: 2 * leaf, params))
    return model


def without_places(result: Any) -> Any:
    """A result without the folder that it was made in."""
    if isinstance(result, dict):
        return {name: without_places(value) for name, value in result.items()}
    if isinstance(result, tuple):
        return tuple(map(without_places, result))
    return os.path.basename(result) if isinstance(result, str) else result


def after_a_calibration(run: Callable[..., Any]) -> Callable[..., Any]:
    """With the checkpoint of a calibration in "made"."""

    def wrapped(**given: Any) -> Any:
        model = fitted("map")
        state = model.posterior.state.get()
        checkpointer = prob_model.CalibCheckpointer(save_checkpoint_dir="made")
        model.calibrate(CLASSES, CLASSES, calib(checkpointer=checkpointer))
        model.posterior.state.put(state)
        return run(**given)

    return wrapped
