"""Several devices share the points of a batch: as one device computes, to rounding.

Each ``check_`` function runs in a process of its own that has four devices, since JAX is told of
them before it starts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import monitoring

import hoarfrost
from hoarfrost import prob_model
from hoarfrost.curvature import head as head_module
from hoarfrost.curvature import jacobian as jacobian_module
from hoarfrost.data import DataLoader
from hoarfrost.devices import ANYWHERE, Devices, choose_devices
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.freezing import Subset, make_partition
from hoarfrost.likelihood import Categorical
from hoarfrost.metric.classification import accuracy
from hoarfrost.network import as_network
from hoarfrost.predictive import weight_samples
from hoarfrost.prior import IsotropicGaussianPrior
from hoarfrost.prob_model import (
    CalibConfig,
    CalibMonitor,
    CalibOptimizer,
    CalibProcessor,
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    FitProcessor,
)
from hoarfrost.training import EarlyStopping, fit_map
from hoarfrost.training import step as programs

SIZES = (1, 3, 4, 7, 33)
EPS = float(np.finfo(np.float32).eps)
KEY = jax.random.PRNGKey(3)
SGD = optax.sgd(0.01)

_rng = np.random.default_rng(0)
X = _rng.normal(size=(33, 5)).astype(np.float32)
Y = _rng.integers(0, 3, 33)
Z = np.stack([X[:, 0] + X[:, 1] ** 2, X[:, 2]], axis=1)


class Plain(nn.Module):
    """Dropout, too: its masks are those of one device."""

    outputs: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.tanh(nn.Dense(6, name="hidden")(x))
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(self.outputs, name="top")(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(6)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(3)(nn.tanh(x))


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="top")(nn.tanh(nn.Dense(4)(x)))


class Module(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(5, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.top = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.top(nnx.tanh(self.norm(self.hidden(x))))


def batches(size, x=X, y=Y):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def close(found, expected, terms=33, scale=None):
    """To the rounding of float32 sums over so many terms."""
    found, expected = (jax.tree.map(np.asarray, tree) for tree in (found, expected))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, known in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.shape == known.shape and ours.dtype == known.dtype
        size = max(float(np.abs(known).max(initial=0)), 0 if scale is None else scale)
        np.testing.assert_allclose(ours, known, rtol=0, atol=8 * terms * EPS * size)


def same(found, expected):
    for ours, known in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(known))


def places(tree):
    """On how many devices each array of a tree lies, and whether it is whole on each."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    assert leaves
    return {(len(leaf.sharding.device_set), leaf.is_fully_replicated) for leaf in leaves}


def shares(array, count=4):
    """Whether each of so many devices has its own rows of an array, and no others."""
    rows = {(shard.index[0].start or 0) for shard in array.addressable_shards}
    sizes = {shard.data.shape[0] for shard in array.addressable_shards}
    return len(rows) == count and sizes == {array.shape[0] // count}


class Recorded:
    """A program, and what its calls were given and gave."""

    def __init__(self, program):
        self.program, self.calls = program, []

    def __getattr__(self, name):
        return getattr(self.program, name)

    def __call__(self, *arguments):
        # Before the call, which may take their buffers.
        given = [places(argument) for argument in arguments if has_arrays(argument)]
        result = self.program(*arguments)
        self.calls.append((arguments, given, result))
        return result


@contextlib.contextmanager
def watched(owner, name):
    recorded = Recorded(getattr(owner, name))
    setattr(owner, name, recorded)
    try:
        yield recorded.calls
    finally:
        setattr(owner, name, recorded.program)


def has_arrays(tree):
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))


@contextlib.contextmanager
def compilations():
    """What is traced and compiled."""
    count = []

    def heard(event, duration, **_):
        if "backend_compile" in event or "jaxpr_trace_duration" in event:
            count.append(event)

    monitoring.register_event_duration_secs_listener(heard)
    try:
        yield count
    finally:
        monitoring.clear_event_listeners()


def compiled(events):
    return sum("backend_compile" in event for event in events)


def raises(call, *words):
    try:
        call()
    except InvalidArgumentError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(words)


# Which devices an argument stands for


def check_choice():
    four = tuple(jax.devices())
    assert len(four) == 4
    assert choose_devices(None) == ANYWHERE and ANYWHERE.count == 1
    for value, expected in (
        (-1, four),
        (0, four[:1]),
        (1, four[:1]),
        (3, four[:3]),
        (np.int64(4), four),
        (jnp.asarray(2), four[:2]),
        ([four[3], four[1]], (four[3], four[1])),
    ):
        assert choose_devices(value) == Devices(expected), value
    params = {"w": jnp.ones((5, 3))}

    def fit(devices):
        return hoarfrost.fit_laplace(
            lambda p, x: x @ p["w"], params, batches(7), progress=False, devices=devices
        )

    for value in (-2, True, 1.5, "all", four[0], 2**70, np.ones(2)):
        raises(lambda value=value: fit(value), "devices must be -1")
    for value in (-2, True, 1.5, None, [four[0]], 2**70):
        raises(lambda value=value: FitProcessor(devices=value), "devices must be -1")
        raises(lambda value=value: CalibProcessor(devices=value), "devices must be -1")
    raises(lambda: fit(5), "devices is 5, but there are 4 local devices (cpu)", "at most 4")
    raises(lambda: fit([]), "at least one device")
    raises(lambda: fit([0, 1]), "at least one device")
    raises(lambda: fit([four[0], four[0]]), "each device once")
    for devices in (-1, 1, four[:2]):
        with jax.set_mesh(jax.make_mesh((4,), ("mine",))):
            raises(
                lambda devices=devices: fit(
                    list(devices) if isinstance(devices, tuple) else devices
                ),
                "outside of that block",
            )


def check_too_many_are_found_before_the_work():
    five = FitProcessor(devices=5)
    epochs = []

    class Count(prob_model.FitCallback):
        def training_epoch_start(self, state):
            epochs.append(1)
            return state

    model = prob_model.ProbClassifier(Plain())
    one = FitConfig(optimizer=FitOptimizer(n_epochs=1), callbacks=[Count()], monitor=QUIET)
    for configs in (
        {"fit_config": FitConfig(processor=five, monitor=QUIET), "map_fit_config": one},
        {"map_fit_config": dataclasses.replace(one, processor=five)},
        {
            "map_fit_config": one,
            "calib_data_loader": batches(7),
            "calib_config": CalibConfig(processor=CalibProcessor(devices=5)),
        },
    ):
        raises(lambda configs=configs: model.train(batches(7), **configs), "devices is 5", "4")
    assert not epochs


def check_placing():
    four = choose_devices(-1)
    assert [four.rows(n) for n in SIZES] == [4, 4, 4, 8, 36]
    assert [four.dividing(n).count for n in SIZES] == [1, 3, 4, 1, 3]
    tree = {"a": X[:8], "key": jax.random.key(0), "half": jnp.ones((4, 2), jnp.bfloat16), "n": 2.5}
    whole, split = four.whole(tree), four.split(tree)
    assert places(whole) == {(4, True)} and whole["n"] == 2.5
    assert shares(split["a"]) and shares(split["half"])
    assert places(split["key"]) == {(4, True)}
    # What has no equal shares is whole on each.
    assert places(four.split(X[:7])) == {(4, True)}
    assert places(four.alone(whole)) == {(1, True)}
    same(split["a"], X[:8])
    # A program's result lies as its arguments do, unless it is told.
    doubled = jax.jit(lambda x: 2 * x), jax.jit(lambda x: four.kept_whole(2 * x))
    assert [places(program(split["a"])) for program in doubled] == [{(4, False)}, {(4, True)}]
    assert ANYWHERE.kept_whole(tree) is tree
    # A caller may write into arrays later.
    for devices in (four, choose_devices(1)):
        for size in (8, 4096):
            mine = np.ones((size, 64), np.float32)
            there = [devices.whole(mine)] + ([devices.split(mine)] if devices.count > 1 else [])
            mine[:] = 7
            same(there, [np.ones_like(mine)] * len(there))
    # Where there is no choice nothing is moved.
    assert ANYWHERE.whole(tree) is tree and ANYWHERE.split(tree) is tree


# Training

QUIET = FitMonitor(verbose=False)


def trained(module, size, devices, optimizer=SGD, trainable=None, **options):
    variables = module.init({"params": KEY, "dropout": KEY}, X)
    network, params, mutable = as_network(module, variables)
    subset = Subset(
        network, make_partition(params, trainable), params, mutable, choose_devices(devices)
    )
    settings = {
        "prior": IsotropicGaussianPrior(),
        "likelihood": Categorical(),
        "train_loader": DataLoader.from_array_data((X, Y), size, shuffle=True),
        "val_loader": DataLoader.from_array_data((X[:10], Y[:10]), 6),
        "optimizer": optimizer,
        "n_epochs": 3,
        "key": KEY,
        "verbose": False,
    }
    return fit_map(subset, **{**settings, **options})


def check_training():
    for module in (Plain(), Normed()):
        for size in SIZES:
            one = trained(module, size, None)
            several = trained(module, size, -1)
            close(vars_of(several), vars_of(one), terms=33 * int(one.step), scale=1.0)
            assert places(several.params) == {(1, True)}
    same(vars_of(trained(Normed(), 33, 1)), vars_of(one))


def vars_of(result):
    return result.params, result.mutable, result.status, result.step


def check_training_options():
    optimizer = optax.adam(1e-2)
    options = {
        "predict": Categorical().mean,
        "metrics": (accuracy,),
        "max_grad_norm": 0.5,
        "gradient_accumulation_steps": 2,
        "early_stopping": EarlyStopping(patience=1, monitor="val_loss"),
        "trainable": lambda path, value: "top" in path,
        "optimizer": optimizer,
        "n_epochs": 5,
    }
    for size in (3, 33):
        one = trained(Plain(), size, None, **options)
        several = trained(Plain(), size, -1, **options)
        close(vars_of(several), vars_of(one), terms=33 * int(one.step), scale=1.0)
        assert places(several.opt_state) == {(1, True)} if several.opt_state else True
    # A callback sees the parameters whole on each device, and what it returns may lie elsewhere.
    seen = []

    class Halve:
        def training_epoch_start(self, state):
            seen.append(places((state.params, state.opt_state, state.step)))
            return state.replace(
                params=jax.tree.map(lambda leaf: np.asarray(leaf) / 2, state.params)
            )

        def training_step_end(self, state):
            return state

        training_epoch_end = training_step_end

    one = trained(Plain(), 7, None, callbacks=[Halve()])
    seen.clear()
    several = trained(Plain(), 7, -1, callbacks=[Halve()])
    assert seen == [{(4, True)}] * 3
    close(vars_of(several), vars_of(one), terms=33 * int(one.step), scale=1.0)
    # A failure gives back what was reached.
    diverged = trained(Plain(), 7, -1, optimizer=optax.sgd(1e30))
    assert diverged.failure is not None and "before that step" in diverged.reached
    assert places(diverged.params) == {(1, True)}


def check_training_is_shared():
    for module, size, count in ((Plain(), 7, 4), (Normed(), 4, 4), (Normed(), 33, 3)):
        with watched(programs, "step_in_place") as calls:
            trained(module, size, -1, predict=Categorical().mean, metrics=(accuracy,))
        assert calls
        for arguments, given, (state, totals, predictions) in calls:
            batch = next(one for one in arguments if isinstance(one, programs.PaddedBatch))
            rows = batch.inputs.shape[0]
            if rows % count == 0:
                assert shares(batch.inputs, count) and shares(batch.targets, count)
                assert not predictions.is_fully_replicated
            else:
                assert places(batch.inputs) == {(count, True)}
            for argument in given:
                assert {devices for devices, _ in argument} == {count}
            del state
            assert places(totals) == {(count, True)}
        # The parameters are moved once: each step finds them where the last one left them.
        trained(module, size, -1)
        with compilations() as again:
            trained(module, size, -1)
        assert compiled(again) == 0
        trained(module, size, None)
        with compilations() as alone:
            trained(module, size, None)
        assert again == alone


# The curvature and predictions


def agrees(one, several, inputs, sizes=(3,), draws=False):
    assert several.num_data == one.num_data
    assert several.hessian_structure == one.hessian_structure
    close(several.precision(), one.precision())
    close(np.float32(several.log_likelihood), np.float32(one.log_likelihood))
    for size in sizes:
        some = inputs[:size]
        close(several.predict(some), one.predict(some))
        close(several.functional_variance(some), one.functional_variance(some), terms=330)
    if draws:
        some = [inputs[i : i + 7] for i in range(0, len(inputs), 7)]
        close(several.predict(some), one.predict(some))
        close(
            several.functional_covariance(inputs[:7], joint=True),
            one.functional_covariance(inputs[:7], joint=True),
            terms=330,
        )
        drawn = {"link": "nn", "n_samples": 5, "seed": 1}
        close(several.predict(inputs, **drawn), one.predict(inputs, **drawn), terms=330, scale=1.0)


def check_curvature():
    plain = Plain().init(KEY, X)
    normed = Normed().init(KEY, X)
    regressor = Plain(outputs=2).init(KEY, X)
    for module, variables, y, options, sizes in (
        (Plain(), plain, Y, {}, SIZES),
        (Plain(), plain, Y, {"hessian_structure": "diag"}, (33,)),
        (Plain(), plain, Y, {"trainable": "last_layer"}, SIZES),
        (Plain(), plain, Y, {"trainable": "last_layer", "hessian_structure": "diag"}, (33,)),
        (Normed(), normed, Y, {}, (7,)),
        (Plain(outputs=2), regressor, Z, {"likelihood": "gaussian", "trainable": ["top"]}, (7,)),
    ):
        for size in sizes:
            loader = batches(size, y=y)
            known = {"progress": False, **options}
            one = hoarfrost.fit_laplace(module, variables, loader, **known)
            several = hoarfrost.fit_laplace(module, variables, loader, devices=-1, **known)
            agrees(one, several, X, SIZES if size == 33 else (3,), draws=size == 7)
            assert places(several.linearised.subset.params) == {(4, True)}
            # What is handed out lies on one device.
            assert places(several.merge()) == {(1, True)}
            same(several.merge(), variables)
    some = hoarfrost.fit_laplace(
        Plain(), plain, batches(7), progress=False, devices=jax.devices()[1:3]
    )
    assert places(some.linearised.subset.params) == {(2, True)}
    agrees(hoarfrost.fit_laplace(Plain(), plain, batches(7), progress=False), some, X)
    first = hoarfrost.fit_laplace(Plain(), plain, batches(7), progress=False, devices=0)
    same(
        first.precision(),
        hoarfrost.fit_laplace(Plain(), plain, batches(7), progress=False).precision(),
    )


def check_positions_and_masks():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(9, 6, 5)).astype(np.float32)
    y, mask = rng.integers(0, 3, (9, 6)), rng.random((9, 6)) < 0.6
    mask[:4] = False
    variables = Tokens().init(KEY, x)
    for trainable in (["top"], None):
        for size in (1, 4, 9):
            starts = range(0, 9, size)
            loader = [(x[i : i + size], (y[i : i + size], mask[i : i + size])) for i in starts]
            known = {"progress": False, "trainable": trainable}
            one = hoarfrost.fit_laplace(Tokens(), variables, loader, **known)
            several = hoarfrost.fit_laplace(Tokens(), variables, loader, devices=-1, **known)
            assert several.num_data == mask.sum()
            close(several.precision(), one.precision(), terms=54)
            close(several.predict(x), one.predict(x), terms=54)
            # A sequence of another length.
            close(several.predict(x[:3, :4]), one.predict(x[:3, :4]), terms=54)
            close(several.log_prob(loader), one.log_prob(loader), terms=540, scale=1.0)


def check_the_pass_is_shared():
    variables = Plain().init(KEY, X)
    for options, owner, name in (
        ({"trainable": ["top"]}, head_module, "_head_program"),
        ({}, jacobian_module, "_rows_program"),
    ):

        def fit(variables, options=options):
            return hoarfrost.fit_laplace(
                Plain(), variables, batches(7), progress=False, devices=-1, **options
            )

        with watched(owner, name) as calls:
            posterior = fit(variables)
            posterior.predict(X[:3])
        assert len(calls) >= 6
        for _, given, result in calls:
            assert shares(result.block) and shares(result.outputs)
            assert all({count for count, _ in argument} == {4} for argument in given)
        with watched(weight_samples, "_program") as calls:
            posterior.predict(X[:3], link="nn")
        for _, given, outputs in calls:
            assert all({count for count, _ in argument} == {4} for argument in given)
            assert places(outputs) == {(4, False)}
        # Other parameters of the same shapes: numbers, no part of a program.
        other = jax.tree.map(lambda leaf: 2 * np.asarray(leaf), variables)
        with compilations() as count:
            moved = fit(other)
            moved.predict(X[:3])
            moved.predict(X[:3], link="nn")
        assert compiled(count) == 0, count
        assert np.abs(moved.predict(X[:3]) - posterior.predict(X[:3])).max() > 1e-3


def check_arrays_that_lie_apart():
    four = jax.devices()
    variables = Tokens().init(KEY, X)
    leaves, structure = jax.tree.flatten(variables)
    apart = [jax.device_put(leaf, four[i % 4]) for i, leaf in enumerate(leaves)]
    spread = jax.tree.unflatten(structure, apart)
    loader = [(jax.device_put(x, four[2]), jax.device_put(y, four[3])) for x, y in batches(7)]
    raises(
        lambda: hoarfrost.fit_laplace(Tokens(), spread, loader, progress=False),
        "lie on different devices",
    )
    far = jax.device_put(X, four[1])
    for trainable, chosen in ((None, ([four[3]],)), ("last_layer", (1, -1))):
        known = {"progress": False, "trainable": trainable}
        one = hoarfrost.fit_laplace(Tokens(), variables, batches(7), **known)
        for devices in chosen:
            several = hoarfrost.fit_laplace(Tokens(), spread, loader, devices=devices, **known)
            close(several.precision(), one.precision())
            close(several.predict(far), one.predict(X))
        drawn = {"link": "nn", "n_samples": 3}
        close(several.predict(far, **drawn), one.predict(X, **drawn), terms=330, scale=1.0)
        close(several.log_prob(loader), one.log_prob(batches(7)), terms=330, scale=1.0)
    arrays, served = several.to_jax(form="covariance", inputs=X)
    assert served.largest_difference < 1e-3 and arrays
    # A file says nothing of devices.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "posterior.safetensors")
        several.save(path)
        for devices, count in ((None, 1), (-1, 4)):
            again = hoarfrost.load_laplace(path, model=Tokens(), devices=devices)
            same(again.precision(), several.precision())
            close(again.predict(far if count == 4 else X), one.predict(X))
            assert {n for n, _ in places(again.linearised.subset.params)} == {count}
            assert {n for n, _ in places(again.linearised.head.direction)} == {count}


# Models behind Fortuna's interface


def check_models():
    for module in (Normed(),):
        found = []
        for devices in (1, -1):
            model = prob_model.ProbClassifier(module)
            status = model.train(
                DataLoader.from_array_data((X, Y), 7, shuffle=True),
                calib_data_loader=DataLoader.from_array_data((X[:9], Y[:9]), 4),
                fit_config=FitConfig(processor=FitProcessor(devices=devices), monitor=QUIET),
                map_fit_config=FitConfig(
                    optimizer=FitOptimizer(method=SGD, n_epochs=2),
                    processor=FitProcessor(devices=devices),
                    monitor=QUIET,
                ),
                calib_config=CalibConfig(
                    optimizer=CalibOptimizer(n_epochs=2),
                    processor=CalibProcessor(devices=devices, n_posterior_samples=3),
                    monitor=CalibMonitor(verbose=False),
                ),
            )
            loader = DataLoader.from_array_data((X, Y), 4)
            sevens = DataLoader.from_array_data((X, Y), 7).to_inputs_loader()
            assert places(model.posterior.state.get().params) == {(1, True)}
            with watched(weight_samples, "_program") as calls:
                predictions = [
                    model.predictive.mean(loader.to_inputs_loader(), 3, rng=1, link="nn"),
                    model.predictive.log_prob(loader, 3, rng=1),
                    model.predictive.mean(loader.to_inputs_loader(), 3, rng=1),
                    # Of batches that are padded on four devices.
                    model.predictive.sample(sevens, 3, ["outputs"], rng=1),
                ]
            expected = (4, False) if devices == -1 else (1, True)
            assert calls and all(places(call[2]) == {expected} for call in calls)
            found.append((status["fit_status"]["map"], status["calib_status"], predictions))
        close(*found[::-1], terms=1000, scale=1.0)
        # Trained on, from a state that lies on one device, on all of them.
        again = FitConfig(
            optimizer=FitOptimizer(method=SGD, n_epochs=1),
            checkpointer=FitCheckpointer(start_from_current_state=True),
            monitor=QUIET,
        )
        model.train(batches(7), map_fit_config=again, fit_config=FitConfig(monitor=QUIET))
        # And without training: the state stays where it was.
        again = dataclasses.replace(again, optimizer=FitOptimizer())
        before = model.posterior.state.get().params
        model.train(batches(7), fit_config=again)
        same(model.posterior.state.get().params, before)
        assert places(model.posterior.state.get().params) == {(1, True)}


def check_map_models():
    module = Module(nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module)))
    found = []
    for devices in (1, -1):
        model = prob_model.ProbClassifier(
            module, posterior_approximator=prob_model.MAPPosteriorApproximator()
        )
        config = FitConfig(
            optimizer=FitOptimizer(method=SGD, n_epochs=2),
            processor=FitProcessor(devices=devices),
            monitor=QUIET,
        )
        model.train(batches(4), fit_config=config)
        loader = DataLoader.from_array_data((X, Y), 7)
        with watched(weight_samples, "_program") as calls:
            mean = model.predictive.mean(loader.to_inputs_loader())
        expected = (4, False) if devices == -1 else (1, True)
        assert calls and all(places(call[2]) == {expected} for call in calls)
        found.append((model.posterior.state.get().params, mean))
        model.posterior.write_to(Module(nnx.Rngs(1)))
    close(*found[::-1], terms=660, scale=1.0)
    same(nnx.to_pure_dict(nnx.state(module)), before)
    one = hoarfrost.fit_laplace(module, None, batches(7), progress=False)
    several = hoarfrost.fit_laplace(module, None, batches(7), progress=False, devices=-1)
    agrees(one, several, X)


def check_without_compilation():
    found = []
    for disabled in (False, True):
        model = prob_model.ProbClassifier(
            Tokens(), posterior_approximator=prob_model.MAPPosteriorApproximator()
        )
        config = FitConfig(
            optimizer=FitOptimizer(method=SGD, n_epochs=1),
            processor=FitProcessor(devices=-1, disable_jit=disabled),
            monitor=QUIET,
        )
        model.train([(X[:8], Y[:8])], fit_config=config)
        found.append(model.posterior.state.get().params)
    close(*found[::-1], terms=330, scale=1.0)


CHECKS = {
    "choice": (check_choice, check_placing, check_arrays_that_lie_apart),
    "before": (check_too_many_are_found_before_the_work, check_without_compilation),
    "training": (check_training,),
    "training-options": (check_training_options, check_training_is_shared),
    "curvature": (check_curvature,),
    "shared-pass": (check_the_pass_is_shared, check_positions_and_masks),
    "models": (check_models,),
    "map-models": (check_map_models,),
}


def run(name):
    """What a process with four devices does."""
    warnings.simplefilter("error")
    for check in CHECKS[name]:
        check()


@pytest.mark.parametrize("name", CHECKS)
def test_four_devices(name):
    flags = "--xla_force_host_platform_device_count=4"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", f"import test_devices; test_devices.run({name!r})"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_one_device_is_where_things_are():
    assert choose_devices(-1) == choose_devices(1) == choose_devices(0) == ANYWHERE
    with pytest.raises(InvalidArgumentError, match="devices is 2, but there is 1 local device"):
        choose_devices(2)
