"""Partitions of a parameter tree: split, merge, and the errors of a selector."""

from __future__ import annotations

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict
from jax.flatten_util import ravel_pytree

from hoarfrost.errors import SelectionError
from hoarfrost.freezing import make_partition, selection_table

Layer = namedtuple("Layer", ["kernel", "bias"])


def tree():
    return {
        "params": {
            "l1": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.arange(3.0)},
            "l3": {"kernel": 10 + jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(2)},
        }
    }


def last_layer(path, value):
    return "trainable" if "l3" in path else "frozen"


def test_split_shows_only_the_selected_layer_and_merge_restores_all():
    params = tree()
    partition = make_partition(params, last_layer)
    trainable, frozen = partition.split(params)
    assert trainable.keys() == {"params"} and trainable["params"].keys() == {"l3"}
    assert frozen["params"].keys() == {"l1"}
    merged = partition.merge(trainable, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)


def test_single_leaf_and_boolean_selectors():
    params = tree()
    partition = make_partition(params, lambda path, v: np.bool_(path[-2:] == ("l3", "bias")))
    trainable, frozen = partition.split(params)
    assert trainable == {"params": {"l3": {"bias": trainable["params"]["l3"]["bias"]}}}
    assert partition.trainable_paths == (("params", "l3", "bias"),)
    assert frozen["params"]["l3"].keys() == {"kernel"}


def test_selector_sees_path_and_value():
    seen = {}
    make_partition(tree(), lambda path, v: bool(seen.setdefault(path, v.shape)) or True)
    assert seen[("params", "l1", "kernel")] == (2, 3)
    assert len(seen) == 4


def test_none_selects_all():
    partition = make_partition(tree(), None)
    trainable, frozen = partition.split(tree())
    assert partition.all_trainable and jax.tree.leaves(frozen) == []
    assert jax.tree.structure(trainable) == jax.tree.structure(tree())


def test_ravel_order_is_that_of_the_full_tree():
    params = tree()
    partition = make_partition(params, lambda path, v: path[-1] == "kernel")
    flat = ravel_pytree(partition.split(params)[0])[0]
    expected = [params["params"][layer]["kernel"].ravel() for layer in ("l1", "l3")]
    np.testing.assert_array_equal(flat, np.concatenate(expected))


@pytest.mark.parametrize(
    "params",
    [
        [jnp.zeros(2), {"a": jnp.ones(3)}],
        (jnp.zeros(2), jnp.ones(3)),
        Layer(jnp.zeros((2, 2)), jnp.ones(2)),
        FrozenDict({"a": {"x": jnp.zeros(1)}, "b": {"y": jnp.ones(2)}}),
    ],
    ids=["list", "tuple", "namedtuple", "FrozenDict"],
)
def test_containers_survive(params):
    first = []
    partition = make_partition(params, lambda path, v: not first and not first.append(1))
    trainable, frozen = partition.split(params)
    assert type(trainable) is type(params) and type(frozen) is type(params)
    assert len(jax.tree.leaves(trainable)) == 1
    merged = partition.merge(trainable, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)


def test_works_on_tracers_with_the_partition_static():
    params = tree()
    partition = make_partition(params, last_layer)

    def doubled(partition, params):
        trainable, frozen = partition.split(params)
        return partition.merge(jax.tree.map(lambda x: 2 * x, trainable), frozen)

    out = jax.jit(doubled, static_argnums=0)(partition, params)
    np.testing.assert_array_equal(out["params"]["l3"]["bias"], 2 * np.ones(2))
    np.testing.assert_array_equal(out["params"]["l1"]["bias"], params["params"]["l1"]["bias"])
    assert hash(make_partition(params, last_layer)) == hash(partition)
    assert make_partition(params, last_layer) == partition


def test_merge_matches_by_path_and_names_what_is_missing():
    partition = make_partition(tree(), last_layer)
    trainable, frozen = partition.split(tree())
    reordered = FrozenDict(trainable)
    merged = partition.merge(reordered, frozen)
    np.testing.assert_array_equal(merged["params"]["l3"]["bias"], np.ones(2))
    del trainable["params"]["l3"]["bias"]
    with pytest.raises(SelectionError, match="trainable tree has no leaf at 'params/l3/bias'"):
        partition.merge(trainable, frozen)


def test_a_selector_that_returns_something_else():
    with pytest.raises(
        SelectionError, match=r"freeze_fun returned 'freeze' for the parameter 'params/l1/bias'"
    ):
        make_partition(tree(), lambda path, v: "freeze", argument="freeze_fun")


@pytest.mark.parametrize("answer", [None, 1, 0.0])
def test_numbers_and_none_are_no_answer(answer):
    with pytest.raises(SelectionError, match="it must return True or 'trainable'"):
        make_partition(tree(), lambda path, v: answer)


def test_nothing_selected_prints_the_tree():
    with pytest.raises(SelectionError) as caught:
        make_partition(tree(), lambda path, v: "l4" in path, argument="freeze_fun")
    message = str(caught.value)
    assert "freeze_fun selects no parameter" in message
    assert "params/l3/kernel  (3, 2)" in message and "params/l1/bias    (3,)" in message


def test_a_selector_that_is_no_function():
    with pytest.raises(SelectionError, match="trainable is 'l3'; give a function"):
        make_partition(tree(), "l3")


def test_empty_tree():
    with pytest.raises(SelectionError, match="holds no arrays"):
        make_partition({"params": {}}, None)


def test_integer_parameters_cannot_be_trained():
    with pytest.raises(SelectionError, match="'steps' has dtype int32: only floating-point"):
        make_partition({"steps": jnp.zeros(1, jnp.int32), "w": jnp.zeros(1)}, None)


def test_selection_table():
    params = tree()
    table = selection_table(params, make_partition(params, last_layer))
    lines = [line.split() for line in table.splitlines()]
    assert ["params/l3/kernel", "(3,", "2)", "trainable", "6"] in lines
    assert ["params/l1/bias", "(3,)", "frozen", "3"] in lines
    assert ["total", "trainable", "8"] in lines and ["total", "frozen", "9"] in lines
