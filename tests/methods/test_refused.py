"""What no method can use is refused before the work, in words that name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from hoarfrost import methods
from hoarfrost.errors import InvalidArgumentError, ShapeError
from hoarfrost.methods.schedules import step_sizes

DATA = [(np.eye(4, 2, dtype=np.float32), np.array([0, 1, 0, 1]))]
PARAMS = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 2), np.float32)}
OF_HEAD = {"trainable": ["b"], "progress": False}


def apply(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["a"]) @ params["b"]


def fit_sngp(*given: Any, **options: Any) -> Any:
    return methods.fit_sngp(*given, output_dim=2, **options)


@pytest.mark.parametrize("fit", [methods.fit_map, fit_sngp])
@pytest.mark.parametrize("value", [np.array([True, False]), 1, "never", None], ids=repr)
def test_cache_features_is_a_switch_or_auto(fit: Callable[..., Any], value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cache_features is .*; give True, False or"):
        fit(apply, PARAMS, DATA, cache_features=value, **OF_HEAD)


@pytest.mark.parametrize("fit", [methods.fit_map, fit_sngp])
def test_an_option_that_is_none_is_no_option(fit: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="liklihood"):
        fit(apply, PARAMS, DATA, liklihood="poisson", **OF_HEAD)


def test_a_last_layer_without_outputs() -> None:
    params = {**PARAMS, "b": np.ones((3, 0), np.float32)}
    with pytest.raises(ShapeError, match=r"outputs have shape \(4, 0\)"):
        methods.fit_map(apply, params, DATA, **OF_HEAD)


@pytest.mark.parametrize("init", [np.array(["anew", "given"]), np.zeros(2), "new"], ids=repr)
def test_init_of_members(init: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"init is .*; give 'anew', 'given'"):
        methods.fit_ensemble(apply, PARAMS, DATA, init=init, **OF_HEAD)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (lambda step: None, "gives None at step 0"),
        (lambda step: "0.1", "gives '0.1' at step 0"),
        (lambda step: 1e-2 + 0j * step, "gives .* at step 0"),
        (lambda step: np.zeros(3), "gives .* at step 0"),
        (lambda step: 0.1 - 0.05 * step, "gives -0.05.* at step 3"),
        (lambda step: True, "gives True at step 0"),
        (lambda step: 0.0 * step, "gives 0 at every step"),
    ],
)
def test_what_a_schedule_gives(schedule: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"step_schedule {said}"):
        step_sizes("step_schedule", schedule, 5)
    with pytest.raises(InvalidArgumentError, match=f"step_schedule {said}"):
        methods.sample_sghmc(apply, PARAMS, DATA, step_schedule=schedule, **OF_HEAD)


def test_a_schedule_may_take_one_step_at_a_time() -> None:
    found = step_sizes("step_schedule", lambda step: 0.1 if step < 2 else jnp.float32(0.5), 4)
    assert found.tolist() == [0.1, 0.1, 0.5, 0.5]
