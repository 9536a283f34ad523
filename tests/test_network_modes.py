"""How a Linen network is told whether it trains, and what is said where nothing tells it."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hoarfrost.data import DataLoader
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.likelihood import Categorical
from hoarfrost.network import JoinedNetwork, LinenNetwork, NamedNetwork, as_network, init_linen
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.training import fit_map

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 1.0, size=(16, 3)).astype(np.float32)
Y = RNG.integers(0, 2, 16)
KEYS = jax.random.split(jax.random.PRNGKey(1), 2)
SGD = optax.sgd(1e-2)


def layers(x: jax.Array, evaluates: bool) -> jax.Array:
    x = nn.BatchNorm(use_running_average=evaluates, name="norm")(x)
    x = nn.Dropout(0.5, deterministic=evaluates, name="drop")(x)
    return nn.Dense(2, name="head")(x)


class Train(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return layers(x, not train)


class Training(nn.Module):
    @nn.compact
    def __call__(self, x, *, training=False):
        return layers(x, not training)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return layers(x, deterministic)


class UseRunningAverage(nn.Module):
    @nn.compact
    def __call__(self, x, use_running_average=True):
        return layers(x, use_running_average)


class BothOfFlax(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True, use_running_average=True):
        x = nn.BatchNorm(use_running_average=use_running_average)(x)
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=deterministic)(x))


def start(module):
    return as_network(module, init_linen(module, X, *KEYS))


def fit(module, **options):
    network, params, mutable = start(module)
    return fit_map(
        Subset(network, make_partition(params, None), params, mutable),
        prior=IsotropicGaussianPrior(),
        likelihood=Categorical(),
        train_loader=DataLoader.from_array_data((X, Y), batch_size=8),
        optimizer=SGD,
        n_epochs=1,
        key=KEYS[0],
        verbose=False,
        **options,
    )


@pytest.mark.parametrize(
    "module",
    [Train, Training, Deterministic, UseRunningAverage, BothOfFlax],
    ids=lambda m: m.__name__,
)
def test_every_flag_of_flax_is_understood(module):
    network, params, mutable = start(module())
    first, moved = network.train(params, mutable, X, KEYS[0])
    second, _ = network.train(params, mutable, X, KEYS[1])
    assert np.any(np.asarray(first) != np.asarray(second)), "dropout acts"
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), mutable, moved)
    assert all(jax.tree.leaves(changed)), "BatchNorm moves"
    evaluated = network.evaluate(params, mutable, X)
    np.testing.assert_array_equal(evaluated, network.evaluate(params, mutable, X))
    expected = module().apply(network.join(params, mutable), X)
    np.testing.assert_array_equal(evaluated, expected)


def test_each_flag_gives_the_same_training():
    """The same layers and key: the same parameters, whatever the flag is called."""
    runs = [fit(module()) for module in (Train, Deterministic)]
    first, second = [jax.tree.leaves((run.params, run.mutable, run.status)) for run in runs]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


class Silent(nn.Module):
    """Nothing tells it that it trains."""

    @nn.compact
    def __call__(self, x):
        return layers(x, True)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.MultiHeadDotProductAttention(
            num_heads=1, dropout_rate=0.5, deterministic=True, name="attend"
        )(x[:, None])
        return nn.Dense(2)(x[:, 0])


class OwnNorm(nn.Module):
    """A layer of the user's own, with statistics and a mode."""

    evaluates: bool

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "centre", jnp.zeros, x.shape[-1])
        if not self.evaluates and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return x - mean.value


class OwnLayers(nn.Module):
    evaluates: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(OwnNorm(self.evaluates)(x))


def test_statistics_that_nothing_moves_are_named():
    with pytest.warns(UserWarning, match="with batch_stats in evaluation mode"):
        fit(OwnLayers())
    network, params, mutable = start(OwnLayers(evaluates=False))
    assert network.idle_in_training(params, mutable, X) == ()


def test_layers_that_would_train_in_evaluation_mode_are_named():
    with pytest.warns(UserWarning, match=r"with norm, drop in evaluation mode.*Let it take train"):
        fit(Silent())
    with pytest.warns(UserWarning, match="with attend in evaluation mode"):
        fit(Attention())
    listed = nn.Sequential([nn.Dense(4), nn.Dropout(0.5, deterministic=True), nn.Dense(2)])
    with pytest.warns(UserWarning, match="layers_1 in evaluation mode"):
        fit(listed)


def test_networks_side_by_side_name_their_layers():
    module = Silent()
    variables = init_linen(module, X, *KEYS)
    joined = JoinedNetwork(*(NamedNetwork(n, LinenNetwork(module)) for n in ("model", "noise")))
    network, params, mutable = as_network(joined, {"model": variables, "noise": variables})
    assert network.idle_in_training(params, mutable, X) == (
        "model/norm",
        "model/drop",
        "noise/norm",
        "noise/drop",
    )


class NoDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Dropout(0.0, deterministic=True)(x))


class FixedOnPurpose(nn.Module):
    """A flag is there, and the layer does not look at it: statistics that shall stay."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=True)(x))


@pytest.mark.parametrize("module", [NoDropout, FixedOnPurpose, Train])
def test_there_is_no_warning_without_a_reason(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(module())


class Streams(nn.Module):
    """Noise from a stream of its own name."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(0.5, deterministic=not train)(x)
        if train:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(2)(x)


def test_every_random_stream_is_fed():
    network, params, mutable = start(Streams())
    draws = [network.train(params, mutable, X, key)[0] for key in (KEYS[0], KEYS[0], KEYS[1])]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(np.asarray(draws[0]) != np.asarray(draws[2]))
    assert np.isfinite(fit(Streams()).status["loss"]).all()


def test_the_dropout_of_a_key_is_what_it_was():
    """Feeding other streams moves no draw of "dropout"."""
    network, params, mutable = start(Train())
    alone = Train().apply(
        network.join(params, mutable),
        X,
        train=True,
        rngs={"dropout": KEYS[0]},
        mutable=["batch_stats"],
    )[0]
    np.testing.assert_array_equal(network.train(params, mutable, X, KEYS[0])[0], alone)
    assert jnp.issubdtype(alone.dtype, jnp.floating)
