"""A plain last layer is told from one that is 1 % off, in every dtype and at every width."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from versions import enable_x64

from hoarfrost.curvature import find_head
from hoarfrost.errors import StructureError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.laplace import fit_laplace
from hoarfrost.network import as_network

DTYPES = ["bfloat16", "float16", "float32", "float64"]
SCALES = (1.0, 1.3, 0.7, 1.5)


def dense(params, x):
    outputs = x @ params["w"]
    return outputs + params["b"] if "b" in params else outputs


def in_two_halves(params, x):
    half = x.shape[1] // 2
    return x[:, :half] @ params["w"][:half] + (x[:, half:] @ params["w"][half:] + params["b"])


def times(*scales):
    return lambda params, x: dense(params, x) * jnp.asarray(scales).astype(x.dtype)


def capped(params, x):
    return 10 * jnp.tanh(dense(params, x) / 10)


def beside(params, x):
    outputs = dense(params, x)
    return outputs + 0.02 * jnp.flip(outputs, 1)


OTHERS = {
    "scaled": times(*SCALES),
    "temperature": times(1.01),
    "one output": times(1, 1.01, 1, 1),
    "cap": capped,
    "residual": beside,
}


def case(dtype, width, seed, points=16, bias=True):
    draw = np.random.default_rng(seed).normal
    params = {"w": jnp.asarray(draw(size=(width, 4)) / np.sqrt(width / 2), dtype)}
    if bias:
        params["b"] = jnp.asarray(draw(size=4), dtype)
    return params, jnp.asarray(draw(size=(points, width)), dtype)


def head_of(model, params, x):
    network, tree, mutable = as_network(model, params)
    subset = Subset(network, make_partition(tree, None), tree, mutable)
    return find_head(subset, x, (len(x), 4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [4, 512, 4096])
def test_one_per_cent_is_told(dtype, width):
    with enable_x64(dtype == "float64"):
        for name, model in OTHERS.items():
            assert head_of(model, *case(dtype, width, 0)) is None, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [4, 512, 4096])
def test_plain_layers_are_accepted(dtype, width):
    with enable_x64(dtype == "float64"):
        for points in (1, 50):
            for model in (dense, in_two_halves):
                head = head_of(model, *case(dtype, width, 0, points))
                assert head is not None, (points, model)
                for seed in range(10):
                    params, x = case(dtype, width, seed, points)
                    x = x * jnp.asarray(4.0 ** (seed - 5), dtype)
                    error = float(head_with(head, params)(x, points).structure_error)
                    # Bounds are far from what rounding does: other seeds are no chance.
                    assert error < 0.8, (points, seed, error)


def head_with(head, params):
    subset = head.subset
    moved = Subset(subset.network, subset.partition, params, subset.mutable)
    return type(head)(moved, head.layout, head.direction)


def test_a_temperature_without_a_bias_is_a_layer_of_other_inputs():
    params, x = case("float32", 16, 0, bias=False)
    head = head_of(times(1.01), params, x)
    np.testing.assert_allclose(head(x, 16).block, 1.01 * x, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_evidence_of_scaled_outputs_in_half_precision(dtype):
    """The case of a wide head: the general way gives the evidence of the same model in float32."""
    params, x = case(dtype, 24, 1, points=60, bias=False)
    y = np.random.default_rng(0).integers(0, 4, 60)

    def evidence(dtype):
        tree = {"w": params["w"].astype(dtype)}
        posterior = fit_laplace(OTHERS["scaled"], tree, [(x.astype(dtype), y)], progress=False)
        return posterior.log_marginal_likelihood()

    np.testing.assert_allclose(evidence(dtype), evidence("float32"), rtol=5e-3)


def test_nearly_a_layer_is_said():
    params, x = case("bfloat16", 64, 0)
    y = np.zeros(16, int)
    with pytest.warns(UserWarning, match=r"nearly a plain Dense layer .* rows of their Jacobian"):
        posterior = fit_laplace(OTHERS["temperature"], params, [(x, y)], progress=False)
    assert posterior.linearised.head is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_laplace(OTHERS["scaled"], params, [(x, y)], progress=False)


def test_a_later_batch_is_held_to_it_too():
    def model(params, x):
        return jnp.where(x[:, :1] > 9, jnp.asarray(1.3, x.dtype), 1) * dense(params, x)

    params, x = case("bfloat16", 64, 0)
    y = np.zeros(16, int)
    with pytest.raises(StructureError, match="batch 1 does not have the last-layer structure"):
        fit_laplace(model, params, [(x, y), (x.at[:, 0].set(10), y)], progress=False)
