"""Parameters from anywhere as the state of a model."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_problems import TRAIN, Net, X, config, laplace_model, map_model, same_tree
from flax import linen as nn
from flax import nnx
from flax.core import freeze

from hoarfrost.errors import HoarfrostError, InvalidArgumentError, NonFiniteError, ShapeError
from hoarfrost.network.recognise import nnx_value
from hoarfrost.prob_model import (
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    MAPPosteriorApproximator,
    ProbRegressor,
)

VARIABLES = Net().init(jax.random.PRNGKey(3), X)
CURRENT = FitConfig(
    checkpointer=FitCheckpointer(start_from_current_state=True),
    monitor=FitMonitor(verbose=False),
)


class Held(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.norm(self.body(x)))))


def outputs(model):
    return np.asarray(model.predictive.mean(TRAIN.to_inputs_loader(), rng=jax.random.PRNGKey(0)))


def swapped(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(">f4"), tree)


LINEN = {
    "variables": (VARIABLES, None),
    "params and statistics": (VARIABLES["params"], {"batch_stats": VARIABLES["batch_stats"]}),
    "under the names": (
        {"model": {"params": VARIABLES["params"]}},
        {"model": {"batch_stats": VARIABLES["batch_stats"]}},
    ),
    "named variables": ({"model": VARIABLES}, None),
    "frozen dict": (freeze(VARIABLES), None),
    "numpy": (jax.tree.map(np.asarray, VARIABLES), None),
    "big-endian": (swapped(VARIABLES), None),
}


@pytest.mark.parametrize("name", LINEN)
def test_every_form_of_linen(name):
    tree, mutable = LINEN[name]
    model = map_model()
    model.load_params(tree, mutable)
    state = model.posterior.state.get()
    assert same_tree(state.params["model"]["params"], VARIABLES["params"])
    assert int(state.step) == 0 and state.opt_state is None and state.calib_params is None
    logits = Net().apply(VARIABLES, X[:22])
    np.testing.assert_allclose(outputs(model), jax.nn.softmax(logits), rtol=1e-6)
    # It is what a fit starts from.
    laplace = laplace_model()
    laplace.load_params(tree, mutable)
    laplace.train(TRAIN, fit_config=CURRENT)
    params = laplace.posterior.state.get().params["model"]["params"]
    assert same_tree(params, VARIABLES["params"])


@pytest.mark.parametrize("constructor", [False, True], ids=["module", "constructor"])
@pytest.mark.parametrize("form", ["state", "parameters and statistics", "nested dict", "our own"])
def test_every_form_of_nnx(form, constructor):
    other = Held(nnx.Rngs(5))
    model = map_model(Held if constructor else Held(nnx.Rngs(0)))
    mutable = None
    if form == "state":
        tree = nnx.state(other)
    elif form == "parameters and statistics":
        tree = nnx.state(other, (nnx.Param, nnx.BatchStat))
    elif form == "nested dict":
        tree = nnx.to_pure_dict(nnx.state(other, (nnx.Param, nnx.BatchStat)))
    else:
        source = map_model(other)
        start = source.joint.init((3,))
        tree, mutable = start.params, start.mutable
    model.load_params(tree, mutable)
    kernel = model.posterior.state.get().params["model"]["body"]["kernel"]
    np.testing.assert_array_equal(kernel, nnx_value(other.body.kernel))
    other.eval()
    np.testing.assert_allclose(outputs(model), jax.nn.softmax(other(X[:22])), rtol=1e-6)
    model.train(TRAIN, fit_config=config(1, start_from_current_state=True))


def test_two_networks_need_their_names():
    approximator = MAPPosteriorApproximator()
    model = ProbRegressor(nn.Dense(1), nn.Dense(1), posterior_approximator=approximator)
    one, two = (nn.Dense(1).init(jax.random.PRNGKey(i), X) for i in range(2))
    model.load_params({"model": one, "lik_log_var": two["params"]})
    params = model.posterior.state.get().params
    assert same_tree(params["lik_log_var"], two) and same_tree(params["model"], one)
    with pytest.raises(InvalidArgumentError, match=r"give \{'model': ..., 'lik_log_var': ...\}"):
        model.load_params(one)


def changed(tree, **leaves):
    return {**tree, "params": {**tree["params"], **leaves}}


def with_head(**leaves):
    return changed(VARIABLES, head={**VARIABLES["params"]["head"], **leaves})


WRONG = {
    "no tree": (3, InvalidArgumentError, "tree is 3; give a nested dict"),
    "none": (None, InvalidArgumentError, "tree is None"),
    "text": (with_head(bias="b"), InvalidArgumentError, "head.*bias.*'b'"),
    "nothing": (with_head(bias=None), InvalidArgumentError, "head.*bias.*None"),
    "no collection": ({**VARIABLES, "more": X}, InvalidArgumentError, "collection 'more' of mod"),
    "NaN": (with_head(bias=jnp.full(2, jnp.nan)), NonFiniteError, "NaN"),
    "masked": (
        with_head(bias=np.ma.masked_array([1.0, 2.0], [True, False])),
        InvalidArgumentError,
        "head.*bias",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_parameter_is_an_error_and_changes_nothing(name):
    tree, error, message = WRONG[name]
    model = map_model()
    model.load_params(VARIABLES)
    before = model.posterior.state.get()
    with pytest.raises(error, match=message):
        model.load_params(tree)
    assert model.posterior.state.get() is before


MISFITS = {
    "shape": (with_head(bias=jnp.ones(3)), r"head/bias' it has shape \(3,\), .* shape \(2,\)"),
    "more": (with_head(more=jnp.ones(3)), r"head/more' it has shape \(3,\), .* nothing"),
    "less": (
        changed(VARIABLES, head={"bias": jnp.ones(2)}),
        r"head/kernel' it has nothing, .* shape \(4, 2\)",
    ),
    "statistics": ({"params": VARIABLES["params"]}, r"'model/batch_stats/.* it has nothing"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("when", ["at once", "when training starts"])
def test_parameters_of_another_network_are_an_error(name, when):
    tree, message = MISFITS[name]
    model = map_model()
    if when == "at once":
        model.train(TRAIN, fit_config=config(1))
        before = model.posterior.state.get()
        with pytest.raises(ShapeError, match=message):
            model.load_params(tree)
        assert model.posterior.state.get() is before
        return
    model.load_params(tree)
    with pytest.raises(ShapeError, match=message):
        model.train(TRAIN, fit_config=config(1, start_from_current_state=True))


def test_parameters_of_another_nnx_module_are_an_error():
    model = map_model(Held(nnx.Rngs(0)))
    tree = nnx.to_pure_dict(nnx.state(Held(nnx.Rngs(1)), (nnx.Param, nnx.BatchStat)))
    tree["head"]["bias"] = jnp.ones(3)
    with pytest.raises(ShapeError, match=r"'model/head/bias' it has shape \(3,\)"):
        model.load_params(tree)
    del tree["head"]
    with pytest.raises(InvalidArgumentError, match="it lacks head/bias"):
        model.load_params(tree)
    with pytest.raises(HoarfrostError):
        model.load_params({"params": VARIABLES["params"]})
    assert model.posterior.state.is_empty


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_the_user_are_not_shared(dtype):
    tree = jax.tree.map(lambda leaf: np.asarray(leaf, dtype).copy(), VARIABLES)
    model = map_model()
    model.load_params(tree)
    before = outputs(model)
    tree["params"]["head"]["bias"][:] += 1
    tree["batch_stats"]["BatchNorm_0"]["mean"][:] += 1
    np.testing.assert_array_equal(before, outputs(model))


def test_what_is_loaded_is_saved_and_loaded(tmp_path):
    model, other = map_model(), map_model()
    model.load_params(VARIABLES)
    model.save_state(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state(tmp_path)
    assert same_tree(model.posterior.state.get().params, other.posterior.state.get().params)
    np.testing.assert_array_equal(outputs(model), outputs(other))
