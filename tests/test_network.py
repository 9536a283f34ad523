"""A module or a function as one pure function of parameters and inputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core import FrozenDict

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network import (
    FunctionNetwork,
    LinenNetwork,
    NamedNetwork,
    as_network,
    init_linen,
)

KEYS = jax.random.split(jax.random.PRNGKey(1), 2)


class Plain(nn.Module):
    sizes: list[int] | tuple[int, ...] = (3,)

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = nn.Dense(size)(x)
        return x


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(2)(x), "auxiliary"


class Keywords(nn.Module):
    @nn.compact
    def __call__(self, x, **kwargs):
        return nn.Dense(2)(x) * (2.0 if kwargs["train"] else 1.0)


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x["a"]) + nn.Embed(5, 2)(x["b"])


X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(4, 3)


def test_a_sequential_is_not_given_train():
    module = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
    network, params, mutable = as_network(module, init_linen(module, X, *KEYS))
    assert network.evaluate(params, mutable, X).shape == (4, 2)
    assert network.train(params, mutable, X, KEYS[0])[0].shape == (4, 2)


def test_module_without_train_argument():
    module = Plain()
    variables = init_linen(module, X, *KEYS)
    network, params, mutable = as_network(module, variables)
    expected = module.apply(variables, X)
    np.testing.assert_array_equal(network.evaluate(params, mutable, X), expected)
    outputs, updated = network.train(params, mutable, X, KEYS[0])
    np.testing.assert_array_equal(outputs, expected)
    assert updated == {}


@pytest.mark.parametrize("wrap", [dict, FrozenDict])
def test_params_alone_are_accepted(wrap):
    module = Plain()
    variables = init_linen(module, X, *KEYS)
    network, params, mutable = as_network(module, wrap(variables["params"]))
    assert set(params) == {"Dense_0"} and mutable == {}
    np.testing.assert_array_equal(network.evaluate(params, mutable, X), module.apply(variables, X))


def test_train_mode_updates_statistics_and_draws_dropout():
    module = Noisy()
    network, params, mutable = as_network(module, init_linen(module, X, *KEYS))
    assert set(mutable) == {"batch_stats"}
    first, updated = network.train(params, mutable, X, KEYS[0])
    second, _ = network.train(params, mutable, X, KEYS[1])
    assert np.any(np.asarray(first) != np.asarray(second))
    assert jax.tree.structure(updated) == jax.tree.structure(mutable)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), mutable, updated)
    assert all(jax.tree.leaves(moved))
    # Evaluation draws nothing and moves nothing: the same twice.
    np.testing.assert_array_equal(
        network.evaluate(params, mutable, X), network.evaluate(params, mutable, X)
    )


def test_train_is_passed_through_keywords():
    network, params, mutable = as_network(Keywords(), init_linen(Keywords(), X, *KEYS))
    trained, _ = network.train(params, mutable, X, KEYS[0])
    np.testing.assert_allclose(trained, 2 * network.evaluate(params, mutable, X), rtol=1e-6)


def test_inputs_may_be_a_dict_and_integers_stay_integers():
    inputs = {"a": X, "b": np.arange(4)}
    network, params, mutable = as_network(Pair(), init_linen(Pair(), inputs, *KEYS))
    assert network.evaluate(params, mutable, inputs).shape == (4, 2)


def test_init_from_a_shape_equals_init_from_a_batch():
    module = Plain()
    for a, b in zip(
        jax.tree.leaves(init_linen(module, (3,), *KEYS)),
        jax.tree.leaves(init_linen(module, X, *KEYS)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_named_network_reads_under_its_name():
    module = Noisy()
    variables = init_linen(module, X, *KEYS)
    named = NamedNetwork("model", LinenNetwork(module))
    network, params, mutable = as_network(named, {"model": variables})
    assert set(params["model"]) == {"params"} and set(mutable["model"]) == {"batch_stats"}
    np.testing.assert_array_equal(
        network.evaluate(params, mutable, X), module.apply(variables, X, train=False)[0]
    )
    _, updated = network.train(params, mutable, X, KEYS[0])
    assert jax.tree.structure(updated) == jax.tree.structure(mutable)


def test_function_network():
    network, params, mutable = as_network(lambda p, x: x @ p["w"], {"w": jnp.ones((3, 2))})
    assert mutable == {}
    np.testing.assert_allclose(network.evaluate(params, mutable, X), X @ np.ones((3, 2)), rtol=1e-6)


def test_equal_modules_are_one_static_argument_and_unhashable_ones_go_by_identity():
    assert hash(LinenNetwork(Plain((3,)))) == hash(LinenNetwork(Plain((3,))))
    assert LinenNetwork(Plain((3,))) == LinenNetwork(Plain((3,)))
    assert LinenNetwork(Plain((3,))) != LinenNetwork(Plain((4,)))
    assert LinenNetwork(Plain((3,))) != LinenNetwork(Plain((3,)), bare=True)
    listed = Plain([3, 2])
    assert LinenNetwork(listed) == LinenNetwork(listed)
    assert isinstance(hash(LinenNetwork(listed)), int)
    assert init_linen(listed, X, *KEYS)["params"].keys() == {"Dense_0", "Dense_1"}
    assert FunctionNetwork(np.sin) != FunctionNetwork(np.cos)


def test_parameters_are_arguments_and_nothing_is_retraced():
    traces = []

    def apply(params, inputs):
        traces.append(1)
        return inputs @ params

    program = jax.jit(lambda n, p, x: n.evaluate(p, {}, x), static_argnums=0)
    for scale in (1.0, 2.0):
        program(FunctionNetwork(apply), scale * jnp.ones((3, 2)), X)
    assert len(traces) == 1


@pytest.mark.parametrize(("model", "said"), [(3, "model is 3"), (Plain, "the class Plain")])
def test_what_is_no_model_is_named(model, said):
    with pytest.raises(InvalidArgumentError, match=f"{said}; give an instance of a flax.linen"):
        as_network(model, {})


def test_a_model_that_returns_no_array_is_named():
    network = FunctionNetwork(lambda p, x: {"logits": x})
    with pytest.raises(InvalidArgumentError, match="returned dict; it must return an array"):
        network.evaluate({}, {}, X)
