"""The last layer's structure is found by computing, and only where it is."""

from __future__ import annotations

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hoarfrost.curvature import HeadLayout, find_head
from hoarfrost.curvature.head import _head_program
from hoarfrost.errors import StructureError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.laplace import fit_laplace
from hoarfrost.network import as_network

pytestmark = pytest.mark.usefixtures("strict")

GENERATOR = np.random.default_rng(3)
X = GENERATOR.standard_normal((9, 5)).astype(np.float32)
KERNEL = GENERATOR.standard_normal((5, 4)).astype(np.float32)
BIAS = GENERATOR.standard_normal(4).astype(np.float32)


def find(model, params, x=X, trainable=None, num_outputs=4):
    network, tree, mutable = as_network(model, params)
    partition = make_partition(tree, trainable)
    head = find_head(Subset(network, partition, tree, mutable), x, (len(x), num_outputs))
    return head, (None if head is None else head(x, len(x)))


def dense(params, x):
    out = x @ params["kernel"]
    return out + params["bias"][None, :] if "bias" in params else out


def test_kernel_and_bias_give_the_inputs_and_a_one():
    head, result = find(dense, {"kernel": KERNEL, "bias": BIAS})
    assert head.layout == HeadLayout(4, 5, kernel=1, output_axis=1, bias=0)
    np.testing.assert_array_equal(result.block, np.c_[X, np.ones(9, np.float32)])
    np.testing.assert_allclose(result.outputs, X @ KERNEL + BIAS, rtol=1e-5, atol=1e-5)


def test_kernel_only():
    head, result = find(dense, {"kernel": KERNEL})
    assert head.layout == HeadLayout(4, 5, kernel=0, output_axis=1, bias=None)
    np.testing.assert_array_equal(result.block, X)


def test_bias_only():
    head, result = find(
        dense, {"kernel": KERNEL, "bias": BIAS}, trainable=lambda path, _: path == ("bias",)
    )
    assert head.layout == HeadLayout(4, 0, kernel=None, output_axis=1, bias=0)
    np.testing.assert_array_equal(result.block, np.ones((9, 1), np.float32))


def test_kernel_with_outputs_first():
    head, result = find(lambda p, x: x @ p["w"].T, {"w": KERNEL.T})
    assert head.layout == HeadLayout(4, 5, kernel=0, output_axis=0, bias=None)
    np.testing.assert_array_equal(result.block, X)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_square_kernel_is_told_from_its_transpose(axis):
    square, x = KERNEL[:4], X[:, :4]

    def model(params, inputs):
        return inputs @ (params["w"] if axis == 1 else params["w"].T)

    head, result = find(model, {"w": square}, x)
    assert head.layout.output_axis == axis
    np.testing.assert_array_equal(result.block, x)


def test_layer_inputs_of_a_linen_module_behind_a_frozen_body(digits):
    head, result = find(
        digits.model,
        digits.variables,
        digits.x[:20].astype(np.float32),
        lambda path, _: "head" in path,
        num_outputs=10,
    )
    hidden = digits.variables["params"]["hidden"]
    activations = np.maximum(digits.x[:20] @ hidden["kernel"] + hidden["bias"], 0)
    assert head.layout.num_features == 17
    np.testing.assert_allclose(result.block[:, :16], activations, rtol=1e-4, atol=1e-5)


def test_a_layer_in_bfloat16_between_float32_ends():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, dtype=jnp.bfloat16)(x).astype(jnp.float32)

    wide = GENERATOR.standard_normal((9, 300)).astype(np.float32)
    variables = Half().init(jax.random.key(0), wide)
    head, result = find(Half(), variables, wide)
    assert head.layout.num_features == 301
    np.testing.assert_allclose(result.block[:, :300], wide, rtol=2**-8)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda p, x: jnp.tanh(dense(p, x)), id="nonlinearity after it"),
        pytest.param(lambda p, x: 2 * dense(p, x), id="bias scaled"),
        pytest.param(lambda p, x: dense(p, x)[:, ::-1], id="outputs permuted"),
        pytest.param(lambda p, x: dense(p, x) + dense(p, x)[:, :1], id="outputs mixed"),
        pytest.param(lambda p, x: dense(p, x) @ jnp.asarray(KERNEL[:4]), id="layer after it"),
    ],
)
def test_other_structures_go_the_general_way(model):
    head, _ = find(model, {"kernel": KERNEL, "bias": BIAS})
    assert head is None


def test_a_hidden_layer_as_wide_as_the_outputs_is_not_taken_for_the_last(small):
    def model(params, x):
        return jnp.tanh(dense(params["inner"], x)) @ params["outer"]

    params = {"inner": {"kernel": KERNEL, "bias": BIAS}, "outer": KERNEL[:4]}
    head, _ = find(model, params, trainable=lambda path, _: path[0] == "inner")
    assert head is None


def test_two_kernels_are_not_one_layer(small):
    head, _ = find(small.apply, small.params, small.x)
    assert head is None


def test_a_later_batch_without_the_structure_is_an_error_that_names_it():
    def model(params, x):
        return jnp.maximum(dense(params, x), 0)

    params = {"kernel": np.abs(KERNEL), "bias": np.abs(BIAS)}
    y = np.zeros(9, int)
    loader = [(np.abs(X), y), (np.abs(X), y), (-np.abs(X) - 1, y)]
    with pytest.raises(StructureError, match="batch 2 does not have the last-layer structure"):
        fit_laplace(model, params, loader, progress=False)


def test_no_jacobian_is_formed():
    """The program's scratch memory grows with B (D' + C), far below B P."""
    num_points, num_inputs, num_outputs = 512, 200, 50
    wide = np.ones((num_points, num_inputs), np.float32)
    params = {
        "kernel": np.ones((num_inputs, num_outputs), "f4"),
        "bias": np.ones(num_outputs, "f4"),
    }
    head, _ = find(dense, params, wide, num_outputs=num_outputs)
    compiled = _head_program.lower(
        head.subset.network, head.subset.partition, head.layout, params, {}, wide, head.direction
    ).compile()
    scratch = compiled.memory_analysis().temp_size_in_bytes
    assert scratch < 4 * 4 * num_points * (num_inputs + num_outputs)
    assert scratch < num_points * num_inputs * num_outputs


@pytest.mark.parametrize("bias_first", [True, False])
@pytest.mark.parametrize("output_axis", [0, 1])
def test_order_is_that_of_ravel_pytree(bias_first, output_axis):
    num_outputs, num_inputs = 3, 5
    kernel, bias = (1, 0) if bias_first else (0, 1)
    layout = HeadLayout(num_outputs, num_inputs, kernel, output_axis, bias)
    # Each entry says its own output and feature; the last feature is the bias.
    names = np.array([[10 * c + i for i in range(num_inputs)] for c in range(num_outputs)])
    leaves = [None, None]
    leaves[kernel] = names if output_axis == 0 else names.T
    leaves[bias] = np.array([10 * c + num_inputs for c in range(num_outputs)])
    ravelled = np.asarray(jax.flatten_util.ravel_pytree(leaves)[0])
    expected = [10 * c + i for c in range(num_outputs) for i in range(num_inputs + 1)]
    assert ravelled[layout.order()].tolist() == expected
