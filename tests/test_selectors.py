"""Every form of a selector, the tree that it is for, and what `describe` says of it."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core import FrozenDict

import hoarfrost
from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, SelectionError
from hoarfrost.freezing import make_partition
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    ProbClassifier,
)

X = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)
Y = np.arange(12) % 3
PARAMS = {
    "body": {"kernel": jnp.ones((2, 4)), "bias": jnp.zeros(4)},
    "blocks": [{"w": jnp.ones((4, 4))}, {"w": jnp.ones((4, 4))}],
    "head": {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)},
    "header": jnp.ones(3),
}
HEAD = {"head/kernel", "head/bias"}
ALL = {"body/kernel", "body/bias", "blocks/0/w", "blocks/1/w", "header"} | HEAD


def answers(head: Any, other: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: head if path[0].key == "head" else other, PARAMS
    )


def chosen(selector: Any, params: Any = PARAMS, **options: Any) -> set[str]:
    partition = make_partition(params, selector, **options)
    return {"/".join(map(str, path)) for path in partition.trainable_paths}


FORMS = {
    "None": (None, ALL),
    "dots": (..., ALL),
    "bools": (lambda path, leaf: path[0] == "head", HEAD),
    "labels": (lambda path, leaf: "trainable" if "head" in path else "frozen", HEAD),
    "of arrays": (
        lambda path, leaf: jnp.asarray(leaf.ndim == 1),
        {"body/bias", "head/bias", "header"},
    ),
    "tree of bools": (answers(True, False), HEAD),
    "tree of NumPy": (answers(np.True_, np.False_), HEAD),
    "tree of labels": (answers("trainable", "frozen"), HEAD),
    "frozen tree": (FrozenDict(answers(True, False)), HEAD),
    "tree above": ({"body": False, "blocks": "frozen", "head": "trainable", "header": False}, HEAD),
    "tree of a list": (
        {"body": False, "blocks": [True, False], "head": False, "header": False},
        {"blocks/0/w"},
    ),
    "True": (True, ALL),
    "expression": (re.compile("^head/"), HEAD),
    "expression inside": (re.compile(r"\d/w$"), {"blocks/0/w", "blocks/1/w"}),
    "expression anywhere": (re.compile("head"), {*HEAD, "header"}),
    "names": (["head"], HEAD),
    "names of pieces": (("head/bias", "blocks/1"), {"head/bias", "blocks/1/w"}),
    "name of leaves": (["bias"], {"body/bias", "head/bias"}),
    "list of forms": (
        [re.compile("^body"), lambda path, leaf: False, "header"],
        {"body/kernel", "body/bias", "header"},
    ),
}


@pytest.mark.parametrize(("selector", "expected"), FORMS.values(), ids=FORMS)
def test_every_form(selector, expected):
    assert chosen(selector) == expected


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(jnp.tanh(nn.Dense(4, name="body")(x)))


def test_a_list_of_parameters_has_a_list_of_answers():
    params = [jnp.ones(2), jnp.ones(3)]
    assert chosen([True, False], params) == {"0"}
    assert chosen(["frozen", "trainable"], params) == {"1"}


WRONG = {
    "string": ("head", r"trainable is 'head'.*re.compile\('head'\)"),
    "frozen": ("frozen", r"trainable is 'frozen'.*re.compile\('frozen'\)"),
    "trainable": ("trainable", r"trainable is 'trainable'.*re.compile"),
    "number": (1, "trainable is 1; give a function"),
    "class": (dict, "trainable is <class 'dict'>; give a function"),
    "bytes": (re.compile(b"head"), "of bytes"),
    "False": (False, "selects no parameter"),
    "no names": ([], "selects no parameter"),
    "a name that is none": (["head", "tail"], r"trainable\[1\] is 'tail', which is no name"),
    "part of a name": (["hea"], r"trainable\[0\] is 'hea', which is no name"),
    "label as a name": (["head", "frozen"], r"trainable\[1\] is 'frozen' in a list of names"),
    "label alone": (["frozen"], r"trainable has entries at 0|says nothing of"),
    "a number in a list": (["head", 3], r"trainable\[1\] is 3; give"),
    "tree with a number": (answers(1, 0), "trainable holds 0 at 'blocks/0/w'"),
    "tree with other words": (answers("yes", "frozen"), "trainable holds 'yes' at 'head/bias'"),
    "tree of arrays": ({**answers(True, False), "header": jnp.ones(3, bool)}, "holds Array"),
    "tree that lacks": ({"head": True}, "says nothing of the parameter 'blocks/0/w'"),
    "tree with more": ({**answers(True, False), "tail": True}, "has entries at tail"),
    "no answer": (lambda path, leaf: None, "returned None for the parameter"),
    "another word": (lambda path, leaf: "freeze", "returned 'freeze' for the parameter"),
}


@pytest.mark.parametrize(("selector", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_selector(selector, message):
    with pytest.raises(SelectionError, match=message):
        chosen(selector)


def test_frozen_never_counts_as_true():
    for selector in (answers("frozen", "frozen"), lambda path, leaf: "frozen"):
        with pytest.raises(SelectionError, match="selects no parameter"):
            chosen(selector)


def test_classes_of_nnx_need_an_nnx_module():
    nnx = pytest.importorskip("flax.nnx")
    for selector in (nnx.Param, nnx.Not(nnx.Param), nnx.All(nnx.PathContains("head"), nnx.Param)):
        with pytest.raises(SelectionError, match="asks for the class of NNX variables"):
            chosen(selector)
    assert chosen(nnx.PathContains("head")) == HEAD
    assert chosen(nnx.Not(nnx.PathContains("head"))) == ALL - HEAD


def model(freeze_fun: Any, map_freeze_fun: Any = None) -> ProbClassifier:
    quiet = FitMonitor(verbose=False)
    made = ProbClassifier(
        Layer(), posterior_approximator=LaplacePosteriorApproximator(tune_prior_log_variance=False)
    )
    data = DataLoader.from_array_data((X, Y), batch_size=12)
    made.train(
        data,
        fit_config=FitConfig(FitOptimizer(freeze_fun=freeze_fun), monitor=quiet),
        map_fit_config=FitConfig(FitOptimizer(n_epochs=1), monitor=quiet),
    )
    if map_freeze_fun is not None:
        current = FitCheckpointer(start_from_current_state=True)
        on = FitConfig(FitOptimizer(n_epochs=1, freeze_fun=map_freeze_fun), current, monitor=quiet)
        made.train(
            data,
            fit_config=FitConfig(FitOptimizer(freeze_fun=freeze_fun), monitor=quiet),
            map_fit_config=on,
        )
    return made


MODEL_TREE = {"model": {"params": {"head": "trainable", "body": "frozen"}}}


@pytest.mark.parametrize(
    "freeze_fun",
    ["last_layer", re.compile("/head/"), ["head"], ["params/head"], MODEL_TREE],
    ids=["last_layer", "regex", "name", "piece", "tree"],
)
def test_freeze_fun_has_the_same_forms(freeze_fun):
    expected = model(lambda path, leaf: "trainable" if "head" in path else "frozen")
    np.testing.assert_array_equal(
        model(freeze_fun).posterior.laplace.precision(), expected.posterior.laplace.precision()
    )


def test_freeze_fun_of_map_training_has_them_too():
    once, twice = model(["head"]), model(["head"], "last_layer")
    first, second = (m.posterior.state.get().params["model"]["params"] for m in (once, twice))
    np.testing.assert_array_equal(first["body"]["kernel"], second["body"]["kernel"])
    assert np.any(first["head"]["kernel"] != second["head"]["kernel"])


@pytest.mark.parametrize("freeze_fun", ["head", "frozen", 3, b"head"])
def test_a_string_for_freeze_fun_is_refused_when_it_is_given(freeze_fun):
    with pytest.raises(InvalidArgumentError, match=r"freeze_fun must be .*re.compile\('head'\)"):
        FitOptimizer(freeze_fun=freeze_fun)


def apply(params: Any, x: Any) -> jax.Array:
    hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"])
    for block in params["blocks"]:
        hidden = hidden @ block["w"]
    return hidden @ params["head"]["kernel"] + params["head"]["bias"] * params["header"]


def test_describe(capsys):
    described = hoarfrost.describe(apply, PARAMS, ["head/kernel"])
    assert capsys.readouterr().out == f"{described}\n"
    lines = [line.split() for line in str(described).splitlines()]
    assert lines[0] == ["parameter", "shape", "dtype", "selection", "numbers"]
    assert ["head/kernel", "(4,", "3)", "float32", "trainable", "12"] in lines
    assert ["blocks/1/w", "(4,", "4)", "float32", "frozen", "16"] in lines
    assert lines[-2:] == [["P", "trainable", "12"], ["total", "frozen", "50"]]
    assert (described.num_params, described.num_frozen, described.plan) == (12, 50, None)
    assert repr(described) == "Description(num_params=12, num_frozen=50)"
    assert [leaf.path for leaf in described.leaves if leaf.trainable] == [("head", "kernel")]


def test_describe_with_inputs_says_what_a_posterior_takes(capsys):
    described = hoarfrost.describe(apply, PARAMS, ["head/kernel"], X)
    plan = hoarfrost.plan(apply, PARAMS, X, trainable=["head/kernel"])
    assert described.num_params == plan.num_params == 12
    assert described.plan.costs == plan.costs and described.plan.head == plan.head == "softmax"
    assert "full" in capsys.readouterr().out
    with pytest.raises(SelectionError, match="give describe some inputs"):
        hoarfrost.describe(apply, PARAMS, "last_layer")


def test_describe_is_a_table_in_a_notebook(monkeypatch, capsys):
    class Shell:
        kernel = None

    class IPython:
        @staticmethod
        def get_ipython() -> Shell:
            return Shell()

    monkeypatch.setitem(__import__("sys").modules, "IPython", IPython)
    params = {"a<b": jnp.ones((2, 3))}
    described = hoarfrost.describe(lambda p, x: x @ p["a<b"], params, None, X)
    assert capsys.readouterr().out == ""
    table = described._repr_html_()
    assert table.startswith("<table>") and "<td>a&lt;b</td><td>(2, 3)</td>" in table
    assert table.count("<tr") == 1 + 1 + 2 and "<pre>posterior over 6 parameters" in table
