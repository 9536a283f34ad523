"""The networks in Linen and in NNX: the same outputs, in evaluation and in training mode."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import (
    CASES,
    KEY,
    NUM_OUTPUTS,
    WITH_DROPOUT,
    WITH_STATISTICS,
    draws,
    evaluating,
    of_type,
    variables,
    with_weights,
)

from hoarfrost import model
from hoarfrost.network import as_network


@contextlib.contextmanager
def graph(on: bool):
    """NNX in graph or in tree mode, where this Flax has both."""
    if not hasattr(nnx, "set_graph_mode"):
        if not on:
            pytest.skip("this Flax has one mode")
        yield
        return
    with nnx.set_graph_mode(on), nnx.set_graph_updates(on):
        yield


@pytest.mark.parametrize("graph_mode", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_nnx_gives_what_linen_gives_with_the_same_weights(name, graph_mode):
    case, values = CASES[name], variables(name)
    expected = jax.jit(case.linen().apply)(values, case.inputs)
    assert expected.shape == (6, NUM_OUTPUTS) and expected.dtype == jnp.float32
    with graph(graph_mode):
        module = evaluating(with_weights(case.nnx(), values))
        graphdef, params, rest = nnx.split(module, nnx.Param, ...)
        params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
        assert jax.tree.structure(params) == jax.tree.structure(values["params"])
        outputs = jax.jit(lambda p, x: nnx.merge(graphdef, p, rest)(x))(params, case.inputs)
    scale = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=64 * np.finfo("f4").eps * scale)
    if name.endswith("ConstantModel"):
        np.testing.assert_array_equal(expected, jnp.broadcast_to(expected[:1], expected.shape))


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_acts_in_training_alone(name):
    case, values = CASES[name], variables(name)
    apply = jax.jit(case.linen().apply, static_argnames=("train", "mutable"))

    def linen(seed):
        rngs = {"dropout": jax.random.PRNGKey(seed)}
        return apply(values, case.inputs, train=True, rngs=rngs, mutable=("batch_stats",))[0]

    def in_nnx(seed):
        return with_weights(case.nnx(nnx.Rngs(seed)), values)(case.inputs)

    for run in (linen, in_nnx):
        first, same, other = draws(run)
        np.testing.assert_array_equal(first, same)
        assert not np.array_equal(first, other)
    module = evaluating(with_weights(case.nnx(), values))
    before = of_type(module, nnx.RngCount)
    np.testing.assert_array_equal(module(case.inputs), module(case.inputs))
    jax.tree.map(np.testing.assert_array_equal, of_type(module, nnx.RngCount), before)
    # Without dropout nothing is random, and no stream is kept.
    assert not jax.tree.leaves(of_type(case.nnx(dropout_rate=0.0), nnx.RngState))


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_statistics_move_in_training_alone_and_alike(name):
    case, values = CASES[name], variables(name)
    network = case.linen(**({"dropout_rate": 0.0} if name in WITH_DROPOUT else {}))
    apply = jax.jit(network.apply, static_argnames=("train", "mutable"))
    kept = apply(values, case.inputs, mutable=("batch_stats",))[1]["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, kept, values["batch_stats"])
    outputs, moved = apply(values, case.inputs, train=True, mutable=("batch_stats",))
    changed = jax.tree.map(
        lambda new, old: not np.array_equal(new, old), moved["batch_stats"], kept
    )
    assert all(jax.tree.leaves(changed))

    module = case.nnx(**({"dropout_rate": 0.0} if name in WITH_DROPOUT else {}))
    with_weights(module, values)
    graphdef, state = nnx.split(module)
    jitted = jax.jit(lambda state, x: (lambda m: (m(x), nnx.state(m)))(nnx.merge(graphdef, state)))
    trained, state = jitted(nnx.to_pure_dict(state), case.inputs)
    new = nnx.to_pure_dict(nnx.filter_state(state, nnx.BatchStat))
    for got, wanted in ((trained, outputs), (new, moved["batch_stats"])):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), got, wanted
        )
    module.eval()
    module(case.inputs)
    jax.tree.map(np.testing.assert_array_equal, of_type(module, nnx.BatchStat), kept)


@pytest.mark.parametrize("name", CASES)
def test_hoarfrost_tells_linen_networks_that_they_train(name):
    case = CASES[name]
    network, params, mutable = as_network(case.linen(), variables(name))
    assert network.idle_in_training(params, mutable, case.inputs) == ()
    outputs, updated = jax.jit(network.train)(params, mutable, case.inputs, KEY)
    same = np.array_equal(outputs, jax.jit(network.evaluate)(params, mutable, case.inputs))
    assert same == (name not in {*WITH_DROPOUT, *WITH_STATISTICS})
    assert jax.tree.structure(updated) == jax.tree.structure(mutable)


@pytest.mark.parametrize("name", ["LeNet5", "ResNet", "ViT", "TransformerEncoder"])
def test_a_network_computes_in_its_dtype(name):
    case, values = CASES[name], variables(name)
    outputs = case.linen(dtype=jnp.bfloat16).apply(values, case.inputs)
    module = evaluating(with_weights(case.nnx(dtype=jnp.bfloat16), values))
    assert outputs.dtype == module(case.inputs).dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(of_type(module, nnx.Param)))


def test_networks_stand_jaxs_strict_options(strict):
    for name in ("DeepResidualNet", "LeNet5", "ResNet", "ViT", "TransformerEncoder"):
        case, values = CASES[name], variables(name)
        jax.eval_shape(case.linen().apply, values, case.inputs)


def test_hyperparameters_are_the_outputs():
    x = CASES["MLP"].inputs
    vector = model.HyperparameterModel(np.float32([1, -2]))
    scalar = model.ScalarHyperparameterModel(2, -2.0)
    for network, own, expected in (
        (vector, model.nnx.HyperparameterModel(np.float32([1, -2])), [1, -2]),
        (scalar, model.nnx.ScalarHyperparameterModel(2, -2.0), [-2, -2]),
    ):
        values = network.init(KEY, x)
        np.testing.assert_array_equal(network.apply(values, x), [expected] * 6)
        np.testing.assert_array_equal(own(x), [expected] * 6)
