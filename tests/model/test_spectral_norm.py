"""Layers with a bounded norm: the bound, its oracle, its statistics and its derivative."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from model_cases import IMAGES, KEY, VECTORS

from hoarfrost.errors import InvalidArgumentError
from hoarfrost.model.mlp import DeepResidualFeatureExtractorSubNet, MLPDeepFeatureExtractorSubNet
from hoarfrost.model.resnet import ResNet18DeepFeatureExtractorSubNetWithSN
from hoarfrost.model.utils.spectral_norm import (
    SpectralNormalization,
    SpectralNormalizationConv2D,
    WithSpectralNorm,
)
from hoarfrost.model.wideresnet import WideResNetDeepFeatureExtractorSubNetWithSN
from hoarfrost.network import as_network

BIG = nn.initializers.normal(2.0)
DENSE = partial(nn.Dense, 4, kernel_init=BIG)
CONV = partial(nn.Conv, 3, (3, 3), (2, 2), kernel_init=BIG)


def largest(function, shape):
    """The largest singular value of a linear function of arrays of this shape."""
    matrix = jax.jacobian(lambda x: function(x) - function(jnp.zeros_like(x)))(jnp.zeros(shape))
    size = int(np.prod(shape))
    return np.linalg.norm(np.asarray(matrix, np.float64).reshape(-1, size), 2)


@pytest.mark.parametrize("bound", [0.9, 3.0, 1e6])
@pytest.mark.parametrize(
    ("wrapper", "layer", "shape"),
    [
        (SpectralNormalization, DENSE, (5,)),
        (SpectralNormalizationConv2D, CONV, (6, 6, 2)),
        (SpectralNormalizationConv2D, partial(CONV, padding="VALID", use_bias=False), (6, 6, 2)),
    ],
)
def test_the_largest_singular_value_is_the_bound_or_the_layers_own(wrapper, layer, shape, bound):
    network = wrapper(layer, norm_multiplier=bound, iteration=300)
    x = jnp.ones((2, *shape))
    values = network.init(KEY, x)
    own = largest(lambda x: layer().apply({"params": values["params"]}, x[None])[0], shape)
    assert own > 3
    # As parameters are made the estimate is good; in training it is as good as iterations make it.
    start = largest(lambda x: network.apply(values, x[None])[0], shape)
    np.testing.assert_allclose(start, min(own, bound), rtol=0.05)
    training = wrapper(layer, 300, bound, True)
    values = {**values, **training.apply(values, x, mutable=["spectral_stats"])[1]}
    norm = largest(lambda x: network.apply(values, x[None])[0], shape)
    np.testing.assert_allclose(norm, min(own, bound), rtol=1e-4)
    if bound == 1e6:
        plain = layer().apply({"params": values["params"]}, x)
        np.testing.assert_array_equal(network.apply(values, x), plain)


def test_the_matrix_of_a_convolution_is_bounded_by_the_plain_wrapper():
    network = SpectralNormalization(CONV, 300, 0.9)
    values = network.init(KEY, IMAGES)
    kernel = values["params"]["kernel"]
    norm = np.linalg.norm(np.asarray(kernel, np.float64).reshape(-1, 3), 2)
    expected = CONV().apply({"params": {**values["params"], "kernel": kernel * 0.9 / norm}}, IMAGES)
    np.testing.assert_allclose(network.apply(values, IMAGES), expected, rtol=1e-3, atol=1e-4)


def test_iterations_improve_the_estimate_in_training_and_nothing_else_does():
    network = SpectralNormalization(DENSE, 1, 0.9)
    values = network.init(KEY, VECTORS)
    values["spectral_stats"]["v"] = jnp.eye(5)[0]
    norms = []
    for iterations in (1, 2, 20):
        training = SpectralNormalization(DENSE, iterations, 0.9, True)
        new = training.apply(values, VECTORS, mutable=["spectral_stats"])[1]
        norms.append(largest(lambda x, new=new: network.apply({**values, **new}, x[None])[0], (5,)))
    assert norms[0] > norms[1] > norms[2] > 0.9 * (1 - 1e-5)
    kept = network.apply(values, VECTORS, mutable=["spectral_stats"])[1]["spectral_stats"]
    np.testing.assert_array_equal(kept["v"], values["spectral_stats"]["v"])


def test_derivatives_are_those_of_the_normalised_layer(x64):
    network = SpectralNormalization(DENSE, 1, 0.9)
    values = jax.tree.map(lambda x: x.astype(jnp.float64), network.init(KEY, VECTORS))
    inputs = VECTORS.astype(np.float64)

    def run(kernel):
        params = {**values["params"], "kernel": kernel}
        return network.apply({**values, "params": params}, inputs)

    kernel = values["params"]["kernel"]
    step = jax.random.normal(KEY, kernel.shape)
    slope = jax.jvp(run, (kernel,), (step,))[1]
    size = 1e-3
    finite = (run(kernel + size * step) - run(kernel - size * step)) / (2 * size)
    np.testing.assert_allclose(slope, finite, rtol=1e-3, atol=1e-3)
    # A longer kernel in the same direction is the same layer.
    along = jax.jvp(run, (kernel,), (kernel,))[1]
    np.testing.assert_allclose(along, np.zeros_like(along), atol=1e-4)


def test_a_kernel_of_zeros_has_derivatives():
    network = SpectralNormalization(partial(nn.Dense, 4, kernel_init=nn.initializers.zeros))
    values = network.init(KEY, VECTORS)
    grads = jax.grad(lambda v: jnp.sum(network.apply({**values, "params": v}, VECTORS)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads(values["params"])))


class Perceptron(WithSpectralNorm, MLPDeepFeatureExtractorSubNet):
    pass


class Residual(WithSpectralNorm, DeepResidualFeatureExtractorSubNet):
    pass


@pytest.mark.parametrize("cls", [Perceptron, Residual])
def test_a_mixed_in_norm_bounds_each_layer_and_keeps_the_parameters_paths(cls):
    options = {"widths": (6, 6), "activations": (nn.relu,), "spectral_norm_bound": 0.5}
    network = cls(**options, dense=partial(nn.Dense, kernel_init=BIG))
    values = network.init(KEY, VECTORS)
    plain = MLPDeepFeatureExtractorSubNet((6, 6), (nn.relu,)).init(KEY, VECTORS)
    assert jax.tree.structure(values["params"]) == jax.tree.structure(plain["params"])
    assert values["spectral_stats"].keys() == {"hidden1", "hidden2"}
    lipschitz = 0.5**2 if cls is Perceptron else 0.5 * 1.5
    jacobians = jax.vmap(jax.jacobian(lambda x: network.apply(values, x[None])[0]))(VECTORS)
    norms = np.linalg.norm(np.asarray(jacobians), 2, axis=(1, 2))
    assert 0.01 < norms.max() < 1.1 * lipschitz


def test_statistics_move_with_training_through_hoarfrosts_network():
    network = Perceptron((6, 3), (nn.relu,), spectral_norm_iteration=2)
    network, params, mutable = as_network(network, network.init(KEY, VECTORS))
    mutable = jax.tree.map(lambda v: jnp.roll(v, 1), mutable)
    assert network.idle_in_training(params, mutable, VECTORS) == ()
    updated = network.train(params, mutable, VECTORS, KEY)[1]
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), updated, mutable)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    "network",
    [
        ResNet18DeepFeatureExtractorSubNetWithSN(num_filters=2),
        WideResNetDeepFeatureExtractorSubNetWithSN(depth=10, widen_factor=1),
    ],
    ids=["ResNet18", "WideResNet"],
)
def test_convolutional_extractors_have_a_norm_for_each_convolution(network):
    values = jax.eval_shape(network.init, KEY, IMAGES)
    kernels = [p for p, _ in jax.tree.leaves_with_path(values["params"]) if "kernel" in str(p)]
    assert len(jax.tree.leaves(values["spectral_stats"])) == len(kernels)
    run = partial(network.apply, train=True, mutable=["batch_stats", "spectral_stats"])
    features, _ = jax.eval_shape(run, values, IMAGES)
    assert features.shape == (6, 16 if "num_filters" in vars(network) else 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iteration": 0}, "iteration is 0"),
        ({"iteration": 1.0}, "iteration is 1.0"),
        ({"norm_multiplier": 0.0}, "norm_multiplier must be"),
        ({"layer": partial(nn.BatchNorm, use_running_average=True)}, "kernel has a spectral norm"),
    ],
)
def test_what_has_no_norm_is_refused(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        SpectralNormalization(**{"layer": DENSE, **options}).init(KEY, VECTORS)
