"""Networks of other libraries: their outputs, the head by name, and the exact posterior over it.

Tests of a library that is not installed are skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import standins
from elsewhere_cases import CASES, of_nnx
from flax import nnx

import hoarfrost
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.examples.networks import bonsai_vit, demonstration, keras3, pytorch
from hoarfrost.freezing import make_partition
from hoarfrost.network.reads import Reads
from hoarfrost.types import join, path_of

RECIPES = {
    "pytorch": "torch",
    "hugging_face": "torch",
    "keras3": "keras",
    "equinox_module": "equinox",
    "haiku_function": "dm-haiku",
    "bonsai_vit": "bonsai",
}
# What these libraries say of themselves and of JAX.
pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torchax stand-in":
            patch.setitem(sys.modules, "torchax", standins.torchax())
        made = CASES[request.param]()
    return made


def dense(case):
    """The precision of the head for a prior precision of 1, and the Jacobians, by `jax.jacrev`."""
    partition = make_partition(case.params, case.head)
    chosen, frozen = partition.split(case.params)
    flat, unravel = jax.flatten_util.ravel_pytree(chosen)

    def outputs(vector):
        return case.apply(partition.merge(unravel(vector), frozen), case.inputs)

    jacobian = np.asarray(jax.jit(jax.jacrev(outputs))(flat), np.float64)
    probs = np.asarray(jax.nn.softmax(jax.jit(outputs)(flat)), np.float64)
    weights = np.einsum("nc,cd->ncd", probs, np.eye(probs.shape[1]))
    weights -= probs[:, :, None] * probs[:, None, :]
    curvature = np.einsum("ncp,ncd,ndq->pq", jacobian, weights, jacobian, optimize=True)
    return curvature + np.eye(len(flat)), jacobian


def fitted(case):
    return hoarfrost.fit_laplace(
        case.apply,
        case.params,
        [(case.inputs, case.targets)],
        trainable=case.head,
        prior_precision=1.0,
        progress=False,
    )


def test_the_function_gives_the_librarys_own_outputs(case):
    before = case.own()
    found = np.asarray(jax.jit(case.apply)(case.params, case.inputs))
    # Some layers deep, added up in another order.
    tolerance = 256 * np.finfo(np.float32).eps * np.abs(before).max()
    np.testing.assert_allclose(found, before, rtol=0, atol=tolerance)


def test_the_head_is_chosen_by_name_and_found_by_its_structure(case):
    partition = make_partition(case.params, case.head)
    assert {join(path) for path in partition.trainable_paths} == case.leaves
    by_name = hoarfrost.plan(case.apply, case.params, case.inputs, trainable=case.head)
    found = hoarfrost.plan(case.apply, case.params, case.inputs, trainable="last_layer")
    assert by_name.head == found.head == "softmax"
    assert by_name.num_params == found.num_params > 0


def test_the_posterior_is_exact_and_the_network_stays_as_it_was(case):
    before = case.own()
    posterior = fitted(case)
    precision, jacobian = dense(case)
    bound = 64 * len(precision) * np.finfo(np.float32).eps * np.abs(precision).max()
    np.testing.assert_allclose(posterior.precision(), precision, rtol=0, atol=bound)
    covariance = np.einsum(
        "ncp,pq,ndq->ncd", jacobian, np.linalg.inv(precision), jacobian, optimize=True
    )
    found = posterior.functional_covariance(case.inputs)
    np.testing.assert_allclose(found, covariance, rtol=0, atol=1e-3 * np.abs(covariance).max())
    probs = posterior.predict(case.inputs)
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=0, atol=16 * np.finfo(np.float32).eps)
    np.testing.assert_array_equal(case.own(), before)


def test_nothing_is_traced_again(case):
    traces = []

    def apply(params, inputs):
        traces.append(1)
        return case.apply(params, inputs)

    posterior = hoarfrost.fit_laplace(
        apply,
        case.params,
        [(case.inputs, case.targets)],
        trainable=case.head,
        progress=False,
    )
    posterior.predict(case.inputs)
    seen = len(traces)
    posterior.predict(case.inputs)
    assert len(traces) == seen


def test_samples_have_the_heads_leaves(case):
    draws = fitted(case).sample(seed=0, n_samples=3)
    paths = [path_of(key) for key, _ in jax.tree_util.tree_flatten_with_path(draws)[0]]
    assert {join(path) for path in paths} == case.leaves


@pytest.mark.parametrize("make", [standins.vision_network, "bonsai"])
def test_an_nnx_module_whose_call_wants_rngs_is_taken_as_it_is(make):
    if make == "bonsai":
        pytest.importorskip("bonsai.models.vit.modeling")
        make = bonsai_vit.network
    module = make()
    case = of_nnx(module)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    data = [(case.inputs, case.targets)]
    found = hoarfrost.fit_laplace(module, None, data, trainable=case.head, progress=False)
    np.testing.assert_array_equal(found.precision(), fitted(case).precision())
    np.testing.assert_array_equal(found.predict(case.inputs), fitted(case).predict(case.inputs))
    after = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, after))
    modes = [m.deterministic for _, m in nnx.iter_modules(module) if isinstance(m, nnx.Dropout)]
    assert modes and not any(modes)


# --- what makes a recipe safe --------------------------------------------------------------------


def test_a_torch_module_in_training_mode_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchax", standins.torchax())
    module = standins.TorchModule()
    module.training = True
    with pytest.raises(InvalidArgumentError, match=r"training mode.*eval\(\)"):
        pytorch.as_function(module)


def test_a_part_of_a_real_torch_module_in_training_mode_is_refused():
    pytest.importorskip("torch")
    pytest.importorskip("torchax")
    module = pytorch.network()
    module.dropout.train()
    with pytest.raises(InvalidArgumentError, match=r"training mode \(dropout\)"):
        pytorch.as_function(module)


class KerasModel:
    """As a Keras model, with one layer that can be frozen."""

    built = True

    def __init__(self, *paths):
        self.variables = [
            SimpleNamespace(path=p, value=jnp.full(1, i)) for i, p in enumerate(paths)
        ]
        self.frozen = set()

    @property
    def trainable_variables(self):
        return [one for one in self.variables if one.path not in self.frozen]

    @property
    def non_trainable_variables(self):
        return [one for one in self.variables if one.path in self.frozen]

    def stateless_call(self, trainable, non_trainable, inputs, training):
        assert training is False
        given = dict(zip((v.path for v in self.trainable_variables), trainable, strict=True))
        given |= zip((v.path for v in self.non_trainable_variables), non_trainable, strict=True)
        return inputs * given["a"] + given["b"], []


def fake_keras(monkeypatch, backend):
    config = SimpleNamespace(backend=lambda: backend)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(config=config))


def test_keras_variables_are_handed_over_by_path(monkeypatch):
    fake_keras(monkeypatch, "jax")
    model = KerasModel("a", "b", "c")
    apply, params = keras3.as_function(model)
    before = apply(params, jnp.ones(1))
    model.frozen.add("a")
    np.testing.assert_array_equal(apply(params, jnp.ones(1)), before)
    np.testing.assert_array_equal(before, [1.0])


@pytest.mark.parametrize(
    ("backend", "paths", "built", "message"),
    [
        ("torch", "ab", True, "KERAS_BACKEND"),
        ("jax", "aba", True, "the same path"),
        ("jax", "ab", False, "not built"),
    ],
)
def test_a_keras_model_that_is_no_function_is_refused(monkeypatch, backend, paths, built, message):
    fake_keras(monkeypatch, backend)
    model = KerasModel(*paths)
    model.built = built
    with pytest.raises(InvalidArgumentError, match=message):
        keras3.as_function(model)


def test_freezing_a_real_keras_layer_changes_nothing():
    case = CASES["keras"]()
    before = np.asarray(case.apply(case.params, case.inputs))
    model = case.apply.__closure__[0].cell_contents
    model.layers[0].trainable = False
    assert len(model.trainable_variables) < 6
    np.testing.assert_array_equal(np.asarray(case.apply(case.params, case.inputs)), before)


# --- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_command_says_what_to_install(recipe, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    module = importlib.import_module(f"hoarfrost.examples.networks.{recipe}")
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert RECIPES[recipe] in str(stopped.value) and "install" in str(stopped.value)


def test_recipes_import_no_other_library():
    names = " ".join(f"hoarfrost.examples.networks.{recipe}" for recipe in RECIPES)
    code = (
        f"import sys, importlib\nfor n in '{names}'.split(): importlib.import_module(n)\n"
        "assert not {'torch', 'keras', 'equinox', 'haiku', 'bonsai', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_table_of_a_recipe(capsys, monkeypatch):
    case = CASES["bonsai-like"]()
    monkeypatch.setattr(demonstration, "_STEPS", 3)
    points = case.inputs, case.targets
    data = demonstration.Data(points, points, case.inputs, "the same")
    demonstration.show("A network", case.apply, case.params, case.head, data)
    printed = capsys.readouterr().out
    assert "classifier/bias, classifier/kernel, 170 parameters" in printed
    assert "accuracy on 24 points" in printed and "confidence on the same" in printed


# --- what a function reads -----------------------------------------------------------------------


def test_modules_that_name_one_another_are_gone_through_once(monkeypatch):
    ring = [sys.modules.setdefault(f"ring{i}", type(sys)(f"ring{i}")) for i in range(3)]
    for i, module in enumerate(ring):
        module.following = ring[(i + 1) % 3]
        module.number = 1.0
    space = {"first": ring[0], "__name__": "somewhere"}
    exec("def apply(params, x): return x * first.following.following.following.number", space)
    try:
        reads = Reads(space["apply"])
        before = reads.version()
        assert reads.version() == before
        ring[0].number = 2.0
        assert reads.version() != before
    finally:
        for module in ring:
            del sys.modules[module.__name__]
