"""Networks, callbacks and likelihoods of a user's own that misbehave, and extreme outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hostile_choices
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from meaning import Boom, Hostile, Raises, Recipe, either, senseless

from hoarfrost.likelihood import CustomLikelihood
from hoarfrost.prior import Prior
from hoarfrost.prob_model import FitCallback

NETWORKS = ("raises", "none", "nan", "whole numbers", "complex", "no batch axis", "scalar", "tuple")
NETWORKS += ("centred over the batch", "mean over the batch", "transposed", "reversed batch")
NETWORKS += ("one row less", "three axes", "string", "numpy", "cumulative over the batch")
HOOKS = ("training_epoch_start", "training_step_end", "training_epoch_end")
CALLBACKS = ("raises", "none", "string", "nan", "no params", "wrong shapes", "number")
LIKELIHOODS = ("raises", "none", "nan", "scalar", "wrong shape", "string", "whole numbers")


def recipes_of_networks() -> st.SearchStrategy[Recipe]:
    return st.tuples(st.just("network"), st.sampled_from(NETWORKS)) | others()


def recipes_of_callbacks() -> st.SearchStrategy[Recipe]:
    return (
        st.tuples(st.just("callback"), st.sampled_from(CALLBACKS), st.sampled_from(HOOKS))
        | others()
    )


def recipes_of_likelihoods() -> st.SearchStrategy[Recipe]:
    return (
        st.tuples(st.just("likelihood"), st.sampled_from(LIKELIHOODS))
        | hostile_choices.recipes_of_choices()
    )


def recipes_of_priors() -> st.SearchStrategy[Recipe]:
    return st.tuples(st.just("prior"), st.sampled_from(LIKELIHOODS)) | others()


def recipes_of_outputs() -> st.SearchStrategy[Recipe]:
    """Outputs of a network: numbers of any size that float32 holds."""
    numbers = st.floats(-120, 120, width=32) | st.floats(
        width=32, allow_nan=False, allow_infinity=False
    )
    return st.tuples(st.just("outputs"), st.tuples(*[numbers.map(float)] * 4))


def recipes_of_targets() -> st.SearchStrategy[Recipe]:
    numbers = st.integers(0, 10) | st.integers(0, 2**40) | st.floats(-1e6, 1e6)
    return st.tuples(st.just("targets"), st.tuples(*[numbers] * 4))


def others() -> st.SearchStrategy[Recipe]:
    return st.tuples(st.just("other"), st.sampled_from(hostile_choices.OTHERS))


def make_network(recipe: Recipe, right: Callable[[Any, Any], Any]) -> Hostile:
    """A function in place of a right one."""
    name, how = recipe
    if name == "other":
        return senseless(hostile_choices.other(how))
    if not callable(right) or isinstance(right, type) or hasattr(right, "apply"):
        return senseless(how)
    if how == "raises":

        def raises(params: Any, x: Any) -> Any:
            raise Boom

        return Hostile(raises, Raises())
    change: Callable[[jax.Array], Any] = {
        "none": lambda out: None,
        "nan": lambda out: out * jnp.nan,
        "whole numbers": lambda out: out.astype(jnp.int32),
        "complex": lambda out: out + 1j,
        "no batch axis": lambda out: out[0],
        "scalar": lambda out: out.sum(),
        "tuple": lambda out: (out, out),
        "centred over the batch": lambda out: out - out.mean(axis=0, keepdims=True),
        "mean over the batch": lambda out: jnp.zeros_like(out) + out.mean(axis=0, keepdims=True),
        "transposed": lambda out: out.T,
        "reversed batch": lambda out: out[::-1],
        "one row less": lambda out: out[:-1],
        "three axes": lambda out: out[:, :, None],
        "string": lambda out: "a",
        "numpy": lambda out: np.asarray(out),
        "cumulative over the batch": lambda out: jnp.cumsum(out, axis=0),
    }[how]

    def network(params: Any, x: Any) -> Any:
        return change(right(params, x))

    return senseless(network)


def make_callbacks(recipe: Recipe) -> Hostile:
    if recipe[0] == "other":
        return senseless(hostile_choices.other(recipe[1]))
    _, how, hook = recipe

    def misbehave(self: Any, state: Any) -> Any:
        if how == "raises":
            raise Boom
        changed = {"nan": lambda leaf: leaf * np.nan, "wrong shapes": lambda leaf: leaf[..., None]}
        if how in changed:
            return state.replace(params=jax.tree.map(changed[how], state.params))
        if how == "no params":
            return state.replace(params={})
        return {"none": None, "string": "state", "number": 3}[how]

    callback = type("Hostile", (FitCallback,), {hook: misbehave})()
    return Hostile([callback], Raises()) if how == "raises" else senseless([callback])


def make_prior(recipe: Recipe) -> Hostile:
    if recipe[0] == "other":
        return senseless(hostile_choices.other(recipe[1]))
    how = recipe[1]

    def log_joint_prob(self: Any, params: Any) -> Any:
        if how == "raises":
            raise Boom
        leaf = jax.tree.leaves(params)[0]
        right = -jnp.sum(leaf**2)
        return {
            "none": None,
            "nan": right * jnp.nan,
            "scalar": -(leaf**2),
            "wrong shape": right[None],
            "string": "a",
            "whole numbers": right.astype(jnp.int32),
        }[how]

    made = type("Hostile", (Prior,), {"log_joint_prob": log_joint_prob, "sample": None})()
    return Hostile(made, Raises()) if how == "raises" else senseless(made)


def make_likelihood(recipe: Recipe, right: Any) -> Hostile:
    if recipe[0] != "likelihood":
        return hostile_choices.make_choice(recipe, right)
    how = recipe[1]

    def log_prob(self: Any, outputs: jax.Array, targets: jax.Array) -> Any:
        if how == "raises":
            raise Boom
        right = -jnp.sum(outputs**2, axis=1)
        return {
            "none": None,
            "nan": right * jnp.nan,
            "scalar": right.sum(),
            "wrong shape": jnp.stack([right, right], axis=1),
            "string": "a",
            "whole numbers": right.astype(jnp.int32),
        }[how]

    made = type("Hostile", (CustomLikelihood,), {"log_prob": log_prob})()
    return Hostile(made, Raises()) if how == "raises" else senseless(made)


def make_outputs(recipe: Recipe, right: np.ndarray) -> Hostile:
    """Extreme numbers in the first two rows; an oracle judges what comes of them."""
    changed = np.array(right)
    count = min(4, changed.size)
    numbers = np.array(recipe[1][:count])
    if recipe[0] == "targets" and np.any(numbers != np.floor(numbers)):
        changed = changed.astype(np.float64)
    elif recipe[0] == "targets":
        changed = changed.astype(np.int64)
    changed.reshape(-1)[:count] = numbers
    return either(changed)
