"""Nothing is compiled twice, and nothing is kept for ever."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.tree_util import Partial

from hoarfrost import fit_laplace
from hoarfrost.data import DataLoader, InputsLoader
from hoarfrost.data.pieces import cut
from hoarfrost.dtypes import copied, is_finite
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.jaxprs import coarsest_eps, largest_bytes
from hoarfrost.likelihood import Categorical, CustomLikelihood, Gaussian
from hoarfrost.network import LinenNetwork, as_network, init_linen, interned
from hoarfrost.predictive import classes, weight_samples
from hoarfrost.predictive.weight_samples import WeightSamples, over_samples
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import (
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
)
from hoarfrost.training import fit_map

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILED.append(name) if "backend_compile" in name else None
)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
NUMBERS = RNG.standard_normal((24, 2)).astype(np.float32)
KEY = jax.random.PRNGKey(3)
SGD = optax.sgd(1e-2)


@contextmanager
def compiled(most: int) -> Iterator[None]:
    """At most so many programs are compiled in the block."""
    before = len(COMPILED)
    yield
    assert len(COMPILED) - before <= most


def network(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def parameters(outputs=2):
    draw = np.random.default_rng(1).standard_normal
    return {"a": draw((4, 3)).astype(np.float32), "b": draw((3, outputs)).astype(np.float32)}


def all_of(noise_std, trainable=None):
    posterior = fit_laplace(
        network,
        parameters(),
        [(X, NUMBERS)],
        likelihood=Gaussian(noise_std),
        trainable=trainable,
        progress=False,
    )
    posterior.predict(X, "nn", 8)
    posterior.log_prob([(X, NUMBERS)], "mc", 8)
    posterior.log_prob([(X, NUMBERS)], "nn", 8)
    return posterior


@pytest.mark.parametrize("trainable", [None, lambda path, value: path == ("b",)])
def test_a_grid_over_the_noise_is_one_set_of_programs(trainable):
    all_of(0.5, trainable)
    with compiled(0):
        for noise_std in (0.1, 0.7, 2.0):
            all_of(noise_std, trainable)


def test_a_noise_that_was_tuned_compiles_no_network_again():
    posterior = all_of(0.5)
    posterior.optimize_hyperparameters()
    with compiled(0):
        posterior.predict(X, "nn", 8)
        posterior.log_prob([(X, NUMBERS)], "nn", 8)


@dataclasses.dataclass(frozen=True)
class Scaled(CustomLikelihood):
    scale: float
    power: int = 2
    data_fields = ("scale",)

    def log_prob(self, outputs, targets):
        return -jnp.sum(self.scale * (outputs - targets) ** self.power, axis=1)

    def mean(self, outputs):
        return outputs * self.scale


def test_the_numbers_of_a_custom_likelihood_may_be_data():
    def run(scale, power=2):
        posterior = fit_laplace(
            network,
            parameters(),
            [(X, NUMBERS)],
            likelihood=Scaled(scale, power),
            progress=False,
        )
        return posterior, posterior.predict(X, "mc", 8)

    run(1.0)
    Scaled(3.0)  # its check is a program of its own, the same for all
    with compiled(0):
        posterior, _ = run(3.0)
    assert posterior.linearised.likelihood == Scaled(3.0)
    one, many = run(1.0), run(2.0)
    assert np.any(one[1] != many[1])
    np.testing.assert_allclose(
        many[0].precision() - np.eye(18),
        2 * (one[0].precision() - np.eye(18)),
        rtol=1e-4,
        atol=1e-4,
    )
    assert hash(Scaled(1.0)) == hash(Scaled(1.0)) != hash(Scaled(2.0))
    leaves, structure = jax.tree.flatten(Scaled(5.0))
    assert leaves == [5.0] and jax.tree.unflatten(structure, leaves) == Scaled(5.0)


class Listed(nn.Module):
    """Equal modules whose attributes have no hash."""

    sizes: list[int]

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = nn.Dense(size)(x)
        return x


def make_sequential():
    return nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)])


@pytest.mark.parametrize("make", [make_sequential, lambda: Listed([5, 3])])
def test_equal_models_share_their_programs(make):
    def run():
        model = make()
        params = init_linen(model, X, KEY, KEY)
        posterior = fit_laplace(model, params, [(X, Y)], progress=False)
        return posterior.predict(X), posterior.predict(X, "nn", 8)

    run()
    with compiled(0):
        run()


def test_equal_networks_are_one_and_others_are_not():
    first, second = (interned(LinenNetwork(make_sequential())) for _ in range(2))
    assert first is second
    assert LinenNetwork(Listed([5, 3])) != LinenNetwork(Listed([5, 4]))
    assert LinenNetwork(Listed([5, 3])) != LinenNetwork(Listed([5, 3]), bare=True)
    sequence = nn.Sequential([nn.Dense(5), nn.tanh, nn.Dense(3)])
    assert LinenNetwork(sequence) != LinenNetwork(make_sequential())
    kept = weakref.ref(interned(LinenNetwork(Listed([7]))))
    gc.collect()
    assert kept() is None


def closure():
    array = jnp.asarray(RNG.standard_normal((1000, 1000)).astype(np.float32))

    def apply(params, x):
        return (x @ array[:4, :3]) @ params["w"] + jnp.sum(array) * 0

    return apply, weakref.ref(array)


def partial():
    array = jnp.asarray(RNG.standard_normal((1000, 1000)).astype(np.float32))
    return Partial(with_array, array, scale=2.0), weakref.ref(array)


def with_array(array, params, x, scale):
    return (x @ array[:4, :3]) @ params["w"] * scale


class Tabled(nn.Module):
    """A module with an array for an attribute."""

    table: jax.Array

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.ones, (3, 3))
        return (x @ self.table[:4, :3]) @ w


def attribute():
    array = jnp.asarray(RNG.standard_normal((1000, 1000)).astype(np.float32))
    return Tabled(array), weakref.ref(array)


@pytest.mark.parametrize("make", [closure, partial, attribute])
@pytest.mark.parametrize("structure", ["full", "dual", "kron", "diag"])
def test_what_a_model_holds_goes_with_it(make, structure):
    """Four fits with 4 MB each: none of them is left."""
    arrays = []
    for _ in range(4):
        model, array = make()
        arrays.append(array)
        params = {"w": jnp.ones((3, 3))}
        posterior = fit_laplace(
            model,
            params if make is not attribute else {"params": params},
            [(X, Y)],
            hessian_structure=structure,
            progress=False,
        )
        posterior.predict(X)
        posterior.predict(X, "nn", 8)
        posterior.optimize_prior_precision()
        del model, posterior
    gc.collect()
    assert [array() for array in arrays] == [None] * 4


def test_parameters_go_with_a_posterior():
    leaf = jnp.asarray(parameters()["a"])
    posterior = fit_laplace(network, {**parameters(3), "a": leaf}, [(X, Y)], progress=False)
    posterior.predict(X, "nn", 8)
    alive = weakref.ref(leaf)
    del leaf, posterior
    gc.collect()
    assert alive() is None


def test_the_arrays_of_a_partial_are_frozen_parameters():
    array = np.asarray(RNG.standard_normal((4, 3)), np.float32)
    model = Partial(with_array, jnp.asarray(array), scale=2.0)
    params = {"w": jnp.asarray(parameters(3)["b"])}
    posterior = fit_laplace(model, params, [(X, Y)], progress=False)

    def by_hand(own, x):
        return (x @ array) @ own["w"] * 2.0

    expected = fit_laplace(by_hand, params, [(X, Y)], progress=False)
    np.testing.assert_allclose(posterior.precision(), expected.precision(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(posterior.predict(X), expected.predict(X), rtol=1e-5)
    assert posterior.num_params == 9 and set(posterior.merge(posterior.sample(0, 1))) == {"w"}
    # Another array of the same shape is another argument of the same programs.
    with compiled(0):
        fit_laplace(
            Partial(with_array, jnp.asarray(-array), scale=2.0), params, [(X, Y)], progress=False
        ).predict(X)
    network, _, mutable = as_network(model, params)
    text = jax.jit(lambda p, m, x: network.evaluate(p, m, x)).lower(params, mutable, X).as_text()
    assert "dense<[[" not in text


class Counted(nn.Module):
    @nn.compact
    def __call__(self, x):
        RUNS.append(x.shape)
        return nn.Dense(3, name="head")(jnp.tanh(nn.Dense(4, name="body")(x)))


RUNS: list[tuple[int, ...]] = []


def test_another_statistic_runs_the_same_program_of_the_network():
    model = ProbClassifier(Counted(), posterior_approximator=LaplacePosteriorApproximator(False))
    quiet = FitMonitor(verbose=False)
    model.train(
        DataLoader.from_array_data((X, Y)),
        fit_config=FitConfig(monitor=quiet),
        map_fit_config=FitConfig(FitOptimizer(SGD, n_epochs=1), monitor=quiet),
    )
    inputs, predictive = InputsLoader.from_array_inputs(X), model.predictive
    predictive.mean(inputs)
    before = len(RUNS)
    for verb in ("aleatoric_variance", "epistemic_variance", "variance", "entropy"):
        getattr(predictive, verb)(inputs)
    predictive.log_prob(DataLoader.from_array_data((X, Y)))
    assert len(RUNS) == before, "the network is not traced again"


def test_the_variance_runs_the_network_once(monkeypatch):
    calls = []
    program = weight_samples._program

    def counted(*arguments):
        calls.append(1)
        return program(*arguments)

    model = ProbClassifier(Counted(), posterior_approximator=LaplacePosteriorApproximator(False))
    quiet = FitMonitor(verbose=False)
    model.train(
        DataLoader.from_array_data((X, Y)),
        fit_config=FitConfig(monitor=quiet),
        map_fit_config=FitConfig(FitOptimizer(SGD, n_epochs=1), monitor=quiet),
    )
    inputs, predictive = InputsLoader.from_array_inputs(X), model.predictive
    parts = [
        verb(inputs, rng=KEY)
        for verb in (predictive.aleatoric_variance, predictive.epistemic_variance)
    ]
    monkeypatch.setattr(weight_samples, "_program", counted)
    variance = predictive.variance(inputs, rng=KEY)
    assert len(calls) == 1
    np.testing.assert_allclose(variance, parts[0] + parts[1], rtol=1e-5)


def test_a_batch_is_dispatched_before_the_one_before_it_is_waited_for():
    module = Counted()
    linen, params, mutable = as_network(module, init_linen(module, X, KEY, KEY))
    partition = make_partition(params, None)
    draws = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    samples = WeightSamples(partition, draws, partition.split(params)[1], mutable)
    taken = []

    def batches():
        for start in range(0, 24, 8):
            taken.append(start)
            yield (X[start : start + 8],)

    found = over_samples(linen, samples, classes.mean, batches())
    parts = [next(found)]
    assert taken == [0, 8], "the second is on its way"
    parts += list(found)
    whole = list(over_samples(linen, samples, classes.mean, [(X,)]))
    np.testing.assert_allclose(np.concatenate(parts), whole[0], rtol=1e-6)


class Deep(nn.Module):
    """A dozen layers, each of its own shape."""

    @nn.compact
    def __call__(self, x):
        for size in range(3, 15):
            x = nn.Dense(size)(x)
        return nn.Dense(3)(x)


def test_the_programs_before_the_first_step_do_not_grow_with_the_network():
    def fit(module):
        params = init_linen(module, X, KEY, KEY)
        network, tree, mutable = as_network(module, params)
        before = len(COMPILED)
        fit_map(
            Subset(network, make_partition(tree, None), tree, mutable),
            prior=IsotropicGaussianPrior(),
            likelihood=Categorical(),
            train_loader=DataLoader.from_array_data((X, Y)),
            optimizer=SGD,
            n_epochs=1,
            key=KEY,
            verbose=False,
        )
        return len(COMPILED) - before

    fit(Listed([3]))
    # One to copy the parameters, one for the optimiser's state, one step, and what joins them.
    assert fit(Listed([6, 3])) <= 5
    assert fit(Deep()) <= 5


def test_a_copy_shares_no_buffer_and_checks_need_no_program():
    tree = {"a": jnp.arange(5.0), "b": [jnp.ones((2, 2))]}
    made = copied(tree)
    pointers = [[x.unsafe_buffer_pointer() for x in jax.tree.leaves(t)] for t in (tree, made)]
    assert not set(pointers[0]) & set(pointers[1])
    with compiled(0):
        assert is_finite({f"{n}": np.ones((n, 3)) for n in range(1, 40)})
        assert not is_finite({"a": np.ones(3), "b": np.array([1.0, np.nan])})
        assert is_finite({"a": np.full(3, 1e308), "b": np.arange(3)}), "a sum may overflow"


def test_epochs_after_the_first_do_not_look_at_arrays_again(monkeypatch):
    from hoarfrost.data import checked

    seen = []

    def looked_at(inputs):
        seen.append(len(inputs))
        return is_finite(inputs)

    monkeypatch.setattr(checked, "is_finite", looked_at)
    network, tree, mutable = as_network(Listed([3]), init_linen(Listed([3]), X, KEY, KEY))

    def fit(loader, n_epochs):
        seen.clear()
        fit_map(
            Subset(network, make_partition(tree, None), tree, mutable),
            prior=IsotropicGaussianPrior(),
            likelihood=Categorical(),
            train_loader=loader,
            val_loader=loader,
            optimizer=SGD,
            n_epochs=n_epochs,
            key=KEY,
            verbose=False,
        )
        return list(seen)

    arrays = DataLoader.from_array_data((X, Y), batch_size=12, shuffle=True)
    assert fit(arrays, 1) == fit(arrays, 5)
    # What a function gives may be other numbers each time.
    stream = DataLoader.from_callable_iterable(lambda: [(X, Y)])
    assert len(fit(stream, 5)) > len(fit(stream, 1))


SHARDED = """
import jax, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from hoarfrost.data import DataLoader
from hoarfrost.data.checked import epoch_batches
from hoarfrost.data.pieces import cut
from hoarfrost.training.step import padded_batch
assert len(jax.devices()) == 2
spread = NamedSharding(Mesh(np.array(jax.devices()), ("points",)), PartitionSpec("points"))
x = jax.device_put(np.arange(24.0, dtype=np.float32).reshape(8, 3), spread)
y = jax.device_put(np.arange(8) % 2, spread)
loader = DataLoader.from_iterable([(x, y)])
for batch in epoch_batches(loader, 0, lambda targets, index: None, argument="a", again=False):
    step = padded_batch(batch, 8, 0)
    assert step.inputs.sharding == spread and step.targets.sharding == spread
assert cut(x, 0, 8, 8).sharding == spread
padded = cut(x, 6, 4, 2)
assert isinstance(padded, jax.Array) and len(padded.devices()) == 2
np.testing.assert_array_equal(padded, np.asarray(x)[[6, 7, 7, 7]])
bad = jax.device_put(np.full((8, 3), np.inf, np.float32), spread)
try:
    loader = DataLoader.from_iterable([(bad, y)])
    list(epoch_batches(loader, 0, lambda *_: None, argument="a", again=False))
except Exception as error:
    assert "batch 0 of a hold inf" in str(error), error
else:
    raise AssertionError
"""


def test_batches_that_are_spread_over_devices_stay_so():
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_walk_through_a_program_looks_into_branches():
    def wide(x):
        return jnp.sum(jnp.zeros((2000, 2000), jnp.float32) + x)

    def branches(x):
        return jax.lax.cond(x > 0, wide, lambda y: y, x)

    jaxpr = jax.make_jaxpr(branches)(1.0).jaxpr
    assert largest_bytes(jaxpr) == 4 * 2000 * 2000

    def half(x):
        return jax.lax.cond(x[0] > 0, lambda y: y.astype(jnp.bfloat16).astype(y.dtype), abs, x)

    plain = jax.make_jaxpr(jnp.tanh)(jnp.ones(3)).jaxpr
    assert coarsest_eps(plain) == np.finfo(np.float32).eps
    assert coarsest_eps(jax.make_jaxpr(half)(jnp.ones(3)).jaxpr) == float(jnp.finfo("bfloat16").eps)


def test_rows_are_cut_alike_on_the_host_and_on_a_device():
    rows = np.arange(21.0).reshape(7, 3)
    np.testing.assert_array_equal(cut(rows, 4, 5, 3), rows[[4, 5, 6, 6, 6]])
    np.testing.assert_array_equal(cut(jnp.asarray(rows), 4, 5, 3), rows[[4, 5, 6, 6, 6]])
