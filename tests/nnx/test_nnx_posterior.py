"""The posterior of an NNX module: that of the same network in Linen, and the module untouched."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from nnx_modules import TREE_MODE, Everything, Net, X, Y, contents, in_evaluation

import hoarfrost
from hoarfrost.errors import DataError, InvalidArgumentError, SelectionError, ShapeError
from hoarfrost.network import as_network

LOADER = [(X[:16], Y[:16]), (X[16:], Y[16:])]


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(jnp.tanh(nn.Dense(5, name="hidden")(x)))


def fit(model: Any, params: Any = None, loader: Any = LOADER, **options: Any) -> hoarfrost.Laplace:
    return hoarfrost.fit_laplace(model, params, loader, progress=False, **options)


def own(module: nnx.Module) -> Any:
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))


@pytest.mark.parametrize("trainable", [None, "last_layer", re.compile("hidden")])
@pytest.mark.parametrize("structure", ["full", "kron", "diag"])
def test_the_posterior_is_that_of_linen(trainable, structure):
    module = Net(nnx.Rngs(1))
    options = {"trainable": trainable, "hessian_structure": structure}
    ours, linens = fit(module, **options), fit(LinenNet(), own(module), **options)
    assert ours.num_params == linens.num_params
    np.testing.assert_array_equal(ours.precision(), linens.precision())
    assert ours.log_marginal_likelihood() == linens.log_marginal_likelihood()
    draws = ours.sample(0, 3), linens.sample(0, 3)
    jax.tree.map(np.testing.assert_array_equal, *draws)
    np.testing.assert_array_equal(ours.predict(X), linens.predict(X))
    np.testing.assert_array_equal(
        ours.functional_covariance(X[:4]), linens.functional_covariance(X[:4])
    )
    jax.tree.map(np.testing.assert_array_equal, ours.merge(draws[0]), linens.merge(draws[1]))


def test_evaluation_is_that_of_the_module_and_changes_nothing_in_it():
    module = Everything(nnx.Rngs(0))
    before = contents(module)
    posterior = fit(module, trainable=["layers/1"])
    assert contents(module) == before
    assert module.drop.deterministic is False and module.norm.use_running_average is False
    network, params, mutable = as_network(module, None)
    outputs = network.evaluate(params, mutable, X)
    np.testing.assert_array_equal(outputs, in_evaluation(module)(X))
    (draws,) = posterior.sample(0, 1)["layers"].values()
    assert draws["kernel"].shape == (1, 5, 3)
    assert contents(module) == before


class Stops:
    """Batches, and then an end in the middle."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Any:
        yield LOADER[0]
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("disk")], ids=["keys", "disk"])
def test_an_end_in_the_middle_leaves_the_module_as_it_was(error):
    module = Everything(nnx.Rngs(0))
    before = contents(module)
    with pytest.raises(type(error)):
        fit(module, loader=Stops(error), trainable=["layers/1"])
    with pytest.raises(DataError):
        fit(module, loader=[])
    assert contents(module) == before


@pytest.mark.parametrize(
    "given",
    [
        lambda m: nnx.state(m, nnx.Param),
        own,
        lambda m: nnx.state(m),
        lambda m: nnx.to_pure_dict(nnx.state(m)),
    ],
    ids=["State", "dict", "whole State", "whole dict"],
)
@pytest.mark.parametrize("abstract", [False, True])
def test_params_may_be_given(given, abstract):
    module = Net(nnx.Rngs(2))
    other = nnx.eval_shape(lambda: Net(nnx.Rngs(0))) if abstract else Net(nnx.Rngs(0))
    ours, its_own = fit(other, given(module)), fit(module)
    np.testing.assert_array_equal(ours.mean, its_own.mean)
    np.testing.assert_array_equal(ours.precision(), its_own.precision())
    again = fit(Net, ours.merge(own(module)))
    np.testing.assert_array_equal(again.precision(), its_own.precision())


def test_a_state_is_read_at_once():
    module = Net(nnx.Rngs(0))
    posterior = fit(module)
    mean = posterior.mean
    nnx.update(module, jax.tree.map(jnp.zeros_like, own(module)))
    np.testing.assert_array_equal(posterior.mean, mean)
    merged = posterior.merge(posterior.sample(0, 1))
    assert np.all(np.asarray(merged["head"]["kernel"]) != 0)


def test_statistics_belong_to_the_params_that_are_given():
    module = Everything(nnx.Rngs(0))
    with pytest.raises(InvalidArgumentError, match="it lacks norm/mean, norm/var; give all"):
        fit(module, own(module))
    moved = nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    moved["norm"]["mean"] = moved["norm"]["mean"] + 1
    changed, plain = fit(module, moved, trainable="last_layer"), fit(module, trainable="last_layer")
    assert np.any(changed.precision() != plain.precision())
    np.testing.assert_array_equal(changed.merge(changed.sample(0, 1))["norm"]["mean"], np.ones(5))


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        (lambda: Net(nnx.Rngs(0)), lambda: {"tail": X}, "it lacks head/bias.* nothing at tail"),
        (lambda: Net(nnx.Rngs(0)), lambda: [X], "params is a list; give the nested dict"),
        (lambda: nnx.eval_shape(lambda: Net(nnx.Rngs(0))), lambda: None, "made by nnx.eval_shape"),
        (lambda: Net, lambda: None, "or is a constructor; give params"),
        (lambda: lambda rngs: 3, lambda: None, "model made a int"),
    ],
)
def test_what_cannot_be_used(model, params, message):
    with pytest.raises(InvalidArgumentError, match=message):
        fit(model(), params())


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 4, rngs=rngs)
        self.second = nnx.Linear(4, 4, rngs=rngs)
        self.second.kernel = self.first.kernel
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.second(jnp.tanh(self.first(x)))))


def tied(params, x):
    kernel = params["first"]["kernel"]
    hidden = jnp.tanh(jnp.tanh(x @ kernel + params["first"]["bias"]) @ kernel + params["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def test_tied_weights_are_one_parameter_or_an_error_that_names_both():
    module = Tied(nnx.Rngs(0))
    if TREE_MODE:
        with pytest.raises(InvalidArgumentError, match=r"'first/kernel' and 'second/kernel'.*tree"):
            fit(module)
        return
    posterior = fit(module, trainable=["first/kernel"])
    params = own(module)
    params["bias"] = params.pop("second")["bias"]
    expected = fit(tied, params, trainable=["first/kernel"])
    assert posterior.num_params == 16
    np.testing.assert_allclose(posterior.precision(), expected.precision(), rtol=1e-4, atol=1e-5)
    posterior.write_to(module, {"first": {"kernel": jnp.ones((4, 4))}})
    np.testing.assert_array_equal(module.second.kernel[...], np.ones((4, 4)))


class Adapted(nnx.Module):
    """A frozen base with a low-rank adapter."""

    def __init__(self, rngs):
        self.base = nnx.LoRALinear(4, 5, lora_rank=2, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)
        lora = self.base.lora
        lora.lora_b[...] = 0.1 * jnp.ones(lora.lora_b.shape)

    def __call__(self, x):
        return self.head(jnp.tanh(self.base(x)))


@pytest.mark.parametrize(
    "trainable", [nnx.LoRAParam, re.compile("lora_[ab]$"), ["lora"]], ids=["type", "regex", "name"]
)
def test_adapters_are_a_subset(trainable):
    module = Adapted(nnx.Rngs(0))
    posterior = fit(module, trainable=trainable)
    assert set(posterior.sample(0, 1)) == {"base"}
    assert set(posterior.sample(0, 1)["base"]["lora"]) == {"lora_a", "lora_b"}
    assert posterior.num_params == 4 * 2 + 2 * 5
    graph, params, rest = nnx.split(in_evaluation(module), nnx.LoRAParam, ...)
    params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    expected = fit(lambda p, x: nnx.merge(graph, p, rest)(x), params)
    np.testing.assert_allclose(posterior.precision(), expected.precision(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("trainable", "chosen"),
    [
        (nnx.Param, 4),
        (..., 4),
        (nnx.PathContains("head"), 2),
        (nnx.All(nnx.Param, nnx.Not(nnx.PathContains("head"))), 2),
        (nnx.Any(nnx.PathContains("head"), nnx.PathContains("hidden")), 4),
        ((nnx.PathContains("bias"), ["head"]), 3),
        (nnx.All(lambda path, variable: variable.ndim > 1, nnx.Param), 2),
    ],
)
def test_nnx_filters(trainable, chosen):
    posterior = fit(Net(nnx.Rngs(0)), trainable=trainable)
    assert len(jax.tree.leaves(posterior.sample(0, 1))) == chosen


def test_filters_of_what_is_never_trainable():
    for kind in (nnx.BatchStat, nnx.RngState, nnx.Cache):
        with pytest.raises(SelectionError, match=r"selects no parameter(.|\n)*layers/0/kernel"):
            fit(Everything(nnx.Rngs(0)), trainable=kind)


def test_a_state_of_answers_is_a_tree():
    module = Net(nnx.Rngs(0))
    answers = jax.tree.map(lambda leaf: leaf.ndim > 1, nnx.state(module, nnx.Param))
    assert fit(module, trainable=answers).num_params == 4 * 5 + 5 * 3


class Wants(nnx.Module):
    """More than inputs at call time, and dropout with keys from outside."""

    def __init__(self, rngs):
        self.net, self.drop = Net(rngs), nnx.Dropout(0.5)

    def __call__(self, x, *, scale, rngs):
        return scale * self.net(self.drop(x, rngs=rngs))

    def encode(self, x):
        return self.net(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda module, inputs: module(inputs, scale=1.0, rngs=None),
        lambda module, inputs, rngs: module(inputs, scale=1.0, rngs=rngs),
        Wants.encode,
        lambda module, inputs, train: module.net(inputs) if not train else None,
        lambda module, inputs, deterministic: module.net(inputs) if deterministic else None,
    ],
)
def test_a_call_with_more_arguments_or_of_another_method(call):
    module = Wants(nnx.Rngs(3))
    posterior = fit(module, call=call, trainable=["head"])
    np.testing.assert_array_equal(
        posterior.precision(), fit(module.net, trainable=["head"]).precision()
    )
    assert hoarfrost.plan(module, None, X, trainable=["head"], call=call).head == "softmax"


class LinenWants(nn.Module):
    def setup(self):
        self.net = LinenNet()

    def encode(self, x, power):
        return self.net(x) ** power


def test_the_same_call_for_linen():
    module = Net(nnx.Rngs(3))
    posterior = fit(
        LinenWants(),
        {"net": own(module)},
        call=lambda module, inputs: module.encode(inputs, power=1),
    )
    np.testing.assert_array_equal(posterior.precision(), fit(module).precision())


@pytest.mark.parametrize(
    ("model", "call", "message"),
    [
        (Net, "encode", "call is 'encode'; give a function"),
        (Net, lambda module: module, "call is <function .*; give a function"),
        (Net, Net, "call is <class .*; give a function"),
        (LinenNet, lambda m, x, rngs: m(x), "call names rngs, which only NNX"),
        (None, lambda m, x: m(x), "call is .* but model is no module"),
    ],
)
def test_calls_that_cannot_be_made(model, call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        if model is None:
            fit(lambda params, x: x @ params, X[:3].T, call=call)
        else:
            fit(model(nnx.Rngs(0)) if model is Net else model(), own(Net(nnx.Rngs(0))), call=call)


def test_write_to():
    module, posterior = Everything(nnx.Rngs(1)), fit(Everything(nnx.Rngs(0)), trainable=["norm"])
    state = contents(module)[1]
    posterior.write_to(module)
    expected = Everything(nnx.Rngs(0))
    jax.tree.map(np.testing.assert_array_equal, own(module), own(expected))
    assert {p for p, _ in state} == {p for p, _ in contents(module)[1]}
    draw = jax.tree.map(lambda leaf: leaf[0], posterior.sample(0, 1))
    posterior.write_to(module, draw)
    np.testing.assert_array_equal(module.norm.scale[...], draw["norm"]["scale"])
    np.testing.assert_array_equal(module.layers[0].kernel[...], expected.layers[0].kernel[...])
    before = contents(module)
    for wrong, error, message in (
        (posterior.sample(0, 2), ShapeError, r"norm/bias.* shape \(2, 5\); give one draw"),
        ({"nor": draw["norm"]}, InvalidArgumentError, "no variable at 'nor/"),
        ([1], InvalidArgumentError, "tree is a list"),
    ):
        with pytest.raises(error, match=message):
            posterior.write_to(module, wrong)
    assert contents(module) == before


def test_a_value_that_is_not_finite_is_named():
    module = Everything(nnx.Rngs(0))
    module.norm.mean[...] = jnp.full(5, jnp.nan)
    with pytest.raises(hoarfrost.errors.NonFiniteError, match="'statistics/norm/mean' holds a NaN"):
        fit(module)
