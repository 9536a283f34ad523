"""Probabilistic models of NNX modules: training, statistics, random state, and where it starts."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from nnx_modules import Everything, Net, X, Y, contents, in_evaluation

from hoarfrost.data import DataLoader
from hoarfrost.errors import InvalidArgumentError, SelectionError
from hoarfrost.network import as_network
from hoarfrost.prob_model import (
    FitCallback,
    FitCheckpointer,
    FitConfig,
    FitMonitor,
    FitOptimizer,
    LaplacePosteriorApproximator,
    MAPPosteriorApproximator,
    ProbClassifier,
    ProbRegressor,
)

DATA = DataLoader.from_array_data((X, Y), batch_size=8)
ADAM = optax.adam(1e-2)
UNTUNED = LaplacePosteriorApproximator(tune_prior_log_variance=False)
AT_MAP = MAPPosteriorApproximator()


def config(n_epochs: int = 2, freeze_fun: Any = None, **parts: Any) -> FitConfig:
    optimizer = FitOptimizer(method=ADAM, n_epochs=n_epochs, freeze_fun=freeze_fun)
    return FitConfig(optimizer=optimizer, monitor=FitMonitor(verbose=False), **parts)


def trained(model: Any, freeze_fun: Any = "last_layer", **options: Any) -> ProbClassifier:
    made = ProbClassifier(model, posterior_approximator=UNTUNED, **options)
    made.train(DATA, fit_config=config(freeze_fun=freeze_fun), map_fit_config=config())
    return made


def state(model: ProbClassifier) -> Any:
    return model.posterior.state.get()


class PageNet(nnx.Module):
    """The network of the page "Bayesian Inference at Scale"."""

    def __init__(self, output_dim: int, rngs: nnx.Rngs) -> None:
        self.l1 = nnx.Linear(1, 5, rngs=rngs)
        self.l2 = nnx.Linear(5, 5, rngs=rngs)
        self.l3 = nnx.Linear(5, output_dim, rngs=rngs)

    def __call__(self, x, train: bool = False, **kwargs):
        x = x.reshape(x.shape[0], -1)
        return self.l3(nnx.relu(self.l2(nnx.relu(self.l1(x)))))


class PageLinen(nn.Module):
    output_dim: int

    @nn.compact
    def __call__(self, x, train: bool = False, **kwargs):
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(5, name="l1")(x))
        x = nn.relu(nn.Dense(5, name="l2")(x))
        return nn.Dense(self.output_dim, name="l3")(x)


def test_the_page_gives_what_it_gives_in_linen():
    output_dim, n_data = 10, 50
    loader = DataLoader.from_array_data(
        data=(
            jnp.linspace(0, 10, n_data),
            jax.random.choice(jax.random.PRNGKey(0), output_dim, shape=(n_data,)),
        )
    )
    options = {
        "train_data_loader": loader,
        "fit_config": config(
            freeze_fun=lambda path, v: "trainable" if "l3" in path else "frozen",
            checkpointer=FitCheckpointer(),
        ),
        "map_fit_config": config(),
    }
    linens = ProbClassifier(model=PageLinen(output_dim))
    start = linens.joint.init((1,)).params["model"]["params"]
    module = PageNet(output_dim, nnx.Rngs(0))
    nnx.update(module, start)
    before = contents(module)
    ours = ProbClassifier(model=module)
    runs = [model.train(**options)["fit_status"] for model in (ours, linens)]
    assert sorted(runs[0]) == ["laplace", "map"] and runs[0]["laplace"]["num_params"] == 60
    np.testing.assert_array_equal(runs[0]["map"]["loss"], runs[1]["map"]["loss"])
    np.testing.assert_array_equal(
        ours.posterior.laplace.precision(), linens.posterior.laplace.precision()
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        state(ours).params["model"],
        state(linens).params["model"]["params"],
    )
    assert contents(module) == before


def test_statistics_and_random_state_are_carried_and_the_module_stays():
    module = Everything(nnx.Rngs(0))
    before = contents(module)
    model = trained(module)
    mutable = state(model).mutable["model"]
    assert np.any(mutable["statistics"]["norm"]["mean"] != 0)
    steps = 2 * 3
    assert mutable["state"]["drop"]["rngs"]["count"] == steps
    assert mutable["state"]["calls"] == steps
    np.testing.assert_array_equal(mutable["state"]["scale"], module.scale)
    assert contents(module) == before
    # In evaluation mode the result is what the module gives with these values in it.
    model.posterior.write_to(module)
    np.testing.assert_array_equal(module.norm.mean[...], mutable["statistics"]["norm"]["mean"])
    network, params, own = as_network(module, None)
    at_map = model.posterior.laplace.linearised.subset
    np.testing.assert_array_equal(
        network.evaluate(params, own, X),
        at_map.network.evaluate(at_map.params, at_map.mutable, X),
    )
    np.testing.assert_array_equal(network.evaluate(params, own, X), in_evaluation(module)(X))


def test_statistics_are_those_of_flax():
    """One step by hand: the train mode of the module itself, without dropout."""
    module = Everything(nnx.Rngs(0))
    module.drop.rate = 0.0
    network, params, mutable = as_network(module, None)
    outputs, moved = network.train(params, mutable, X, jax.random.PRNGKey(0))
    copy = nnx.clone(module)
    copy.train()
    np.testing.assert_array_equal(outputs, copy(X))
    np.testing.assert_array_equal(moved["statistics"]["norm"]["var"], copy.norm.var[...])
    assert jax.tree.structure(moved) == jax.tree.structure(mutable)


def test_the_seed_draws_the_dropout():
    runs = [trained(Everything(nnx.Rngs(0)), seed=seed) for seed in (0, 0, 1)]
    first, again, other = [state(run).params["model"]["layers"][0]["kernel"] for run in runs]
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_frozen_layers_keep_their_statistics():
    model = ProbClassifier(Everything(nnx.Rngs(0)), posterior_approximator=AT_MAP)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the module brings its parameters: none is random
        model.train(DATA, fit_config=config(freeze_fun=["layers/1"]))
    np.testing.assert_array_equal(
        state(model).mutable["model"]["statistics"]["norm"]["mean"], np.zeros(5)
    )
    start = Everything(nnx.Rngs(0))
    found = state(model).params["model"]["layers"]
    np.testing.assert_array_equal(found[0]["kernel"], start.layers[0].kernel[...])
    assert np.any(found[1]["kernel"] != start.layers[1].kernel[...])


class Interrupts(FitCallback):
    def training_step_end(self, state: Any) -> Any:
        raise KeyboardInterrupt


def test_an_interrupted_training_leaves_the_module_as_it_was():
    module = Everything(nnx.Rngs(0))
    before = contents(module)
    model = ProbClassifier(module, posterior_approximator=AT_MAP)
    with pytest.raises(KeyboardInterrupt):
        model.train(DATA, fit_config=config(callbacks=[Interrupts()]))
    assert contents(module) == before


@pytest.mark.parametrize("made", [Net, lambda rngs: Net(rngs)], ids=["class", "function"])
def test_a_constructor_starts_anew(made):
    models = [trained(made, seed=seed) for seed in (0, 0, 1)]
    params = [state(model).params["model"]["head"]["kernel"] for model in models]
    np.testing.assert_array_equal(params[0], params[1])
    assert np.any(params[0] != params[2])
    started = models[0].joint.init(X, rng=3).params["model"]
    first, second = jax.random.split(jax.random.PRNGKey(3))
    expected = Net(nnx.Rngs(params=first, default=second))
    np.testing.assert_array_equal(started["head"]["kernel"], expected.head.kernel[...])
    module = Net(nnx.Rngs(9))
    models[0].posterior.write_to(module, models[0].posterior.sample(0))
    assert np.any(module.head.kernel[...] != params[0])
    np.testing.assert_array_equal(
        module.hidden.kernel[...], state(models[0]).params["model"]["hidden"]["kernel"]
    )


class Wide(nnx.Module):
    """Layers of many kinds."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 400, rngs=rngs)
        self.norm = nnx.BatchNorm(400, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(4, 400, decode=False, rngs=rngs)
        self.conv = nnx.Conv(6, 50, (3, 3), rngs=rngs)
        self.head = nnx.Sequential(nnx.Linear(400, 300, rngs=rngs), nnx.Dropout(0.1, rngs=rngs))


@pytest.mark.filterwarnings("ignore:model was made by nnx.eval_shape")
def test_a_module_of_shapes_starts_from_the_defaults_of_its_layers():
    model = ProbClassifier(nnx.eval_shape(lambda: Wide(nnx.Rngs(0))))
    started = model.joint.init(X)
    own = nnx.to_pure_dict(nnx.state(Wide(nnx.Rngs(0)), nnx.Param))
    leaves = jax.tree_util.tree_leaves_with_path(own)
    drawn = dict(jax.tree_util.tree_leaves_with_path(started.params["model"]))
    assert len(leaves) == len(drawn)
    for path, leaf in leaves:
        found = drawn[path]
        assert found.shape == leaf.shape and found.dtype == leaf.dtype
        if np.ptp(leaf) == 0:
            np.testing.assert_array_equal(found, leaf)
        else:  # 300 numbers or more
            assert float(found.std()) == pytest.approx(float(leaf.std()), rel=0.2)
            assert not np.array_equal(found, leaf)
    again = model.joint.init(X)
    jax.tree.map(np.testing.assert_array_equal, started.params, again.params)


def test_what_a_module_of_shapes_cannot_start_from():
    class Own(nnx.Module):
        def __init__(self, rngs):
            self.w = nnx.Param(jax.random.normal(rngs.params(), (4, 3)))

        def __call__(self, x):
            return x @ self.w[...]

    for made in (Own, lambda rngs: nnx.LSTMCell(4, 3, rngs=rngs)):
        model = ProbClassifier(nnx.eval_shape(lambda made=made: made(nnx.Rngs(0))))
        with pytest.raises(InvalidArgumentError, match="a function that makes it of rngs"):
            model.joint.init(X)


def test_a_module_of_shapes_is_trained():
    shapes = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    model = ProbClassifier(shapes, posterior_approximator=UNTUNED)
    with pytest.warns(UserWarning, match="made by nnx.eval_shape, which keeps no initialisers"):
        model.train(DATA, fit_config=config(), map_fit_config=config())
    assert np.isfinite(model.posterior.laplace.log_marginal_likelihood())


def test_a_module_of_shapes_takes_a_state():
    shapes = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    model = ProbClassifier(shapes, posterior_approximator=UNTUNED)
    donor = trained(Net(nnx.Rngs(0)))
    model.posterior.state.put(state(donor))
    current = FitCheckpointer(start_from_current_state=True)
    model.train(DATA, fit_config=config(freeze_fun="last_layer", checkpointer=current))
    np.testing.assert_array_equal(
        model.posterior.laplace.precision(), donor.posterior.laplace.precision()
    )


def test_a_module_with_values_takes_no_key():
    model = ProbClassifier(Net(nnx.Rngs(0)))
    with pytest.raises(InvalidArgumentError, match="rng is 3, but an NNX module starts from"):
        model.joint.init(X, rng=3)


def test_a_module_that_changed_is_refused():
    module = Net(nnx.Rngs(0))
    model = ProbClassifier(module, posterior_approximator=AT_MAP)
    module.head = nnx.Linear(5, 4, rngs=nnx.Rngs(0))
    with pytest.raises(InvalidArgumentError, match="model is not what it was"):
        model.train(DATA, fit_config=config())


@pytest.mark.parametrize("second", ["nnx", "linen"])
def test_a_regressor_of_two_networks(second):
    noise = Net(nnx.Rngs(1), 1) if second == "nnx" else nn.Dense(1)
    mean = Net(nnx.Rngs(0), 1)
    model = ProbRegressor(mean, noise, posterior_approximator=UNTUNED)
    data = DataLoader.from_array_data((X, X[:, :1]), batch_size=8)
    model.train(data, fit_config=config(freeze_fun=["model/head"]), map_fit_config=config())
    assert model.posterior.laplace.num_params == 6
    assert np.isfinite(model.predictive.log_prob(data)).all()
    model.posterior.write_to(mean)
    np.testing.assert_array_equal(
        mean.head.kernel[...], state(model).params["model"]["head"]["kernel"]
    )
    if second == "nnx":
        model.posterior.write_to(noise, name="lik_log_var")
        np.testing.assert_array_equal(
            noise.head.bias[...], state(model).params["lik_log_var"]["head"]["bias"]
        )


def test_filters_of_a_model_see_its_classes():
    model = trained(Net(nnx.Rngs(0)), freeze_fun=nnx.All(nnx.Param, nnx.PathContains("head")))
    assert model.posterior.laplace.num_params == 18
    with pytest.raises(SelectionError, match="freeze_fun selects no parameter"):
        trained(Net(nnx.Rngs(0)), freeze_fun=nnx.LoRAParam)


class Sows(Net):
    """Its hidden units are kept aside, call after call."""

    def __call__(self, x: jax.Array) -> jax.Array:
        self.sow(nnx.Intermediate, "units", self.hidden(x))
        return super().__call__(x)


@pytest.mark.filterwarnings("ignore:.*sow:DeprecationWarning")
def test_what_a_module_sows_does_not_grow_in_training():
    module = Sows(nnx.Rngs(0))
    module(X[:8])
    before = contents(module)
    ours, plain = trained(module), trained(Net(nnx.Rngs(0)))
    assert contents(module) == before
    np.testing.assert_array_equal(
        ours.posterior.laplace.precision(), plain.posterior.laplace.precision()
    )


def test_a_variable_that_holds_a_dict_is_named():
    module = Net(nnx.Rngs(0))
    module.extra = nnx.Cache({"a": jnp.ones(2)})
    with pytest.raises(InvalidArgumentError, match="'extra' that holds a dict"):
        ProbClassifier(module)


class OwnMode(nnx.Module):
    """A mode of the user's own making."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.net, self.training = Net(rngs), True

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.net(x) + (1.0 if self.training else 0.0)


class Around(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner = OwnMode(rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x)


class Switched(OwnMode):
    def set_view(self, training: bool | None = None) -> None:
        if training is not None:
            self.training = training


class Told(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.net = Net(rngs)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return self.net(x) + (1.0 if train else 0.0)


def test_a_mode_that_cannot_be_switched_is_named():
    with pytest.warns(UserWarning, match=r"OwnMode \(training=True\) cannot be switched"):
        ProbClassifier(OwnMode(nnx.Rngs(0)))
    with pytest.warns(UserWarning, match=r"inner \(training=True\).*set_view"):
        as_network(Around(nnx.Rngs(0)), None)


NEEDS_VIEW = pytest.mark.skipif(not hasattr(nnx, "view"), reason="Flax before 0.12.5 has no views")


@pytest.mark.parametrize("made", [pytest.param(Switched, marks=NEEDS_VIEW), Told])
def test_a_mode_that_can_be_switched_is(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network, params, mutable = as_network(made(nnx.Rngs(0)), None)
    evaluated = network.evaluate(params, mutable, X)
    np.testing.assert_array_equal(evaluated, Net(nnx.Rngs(0))(X))
    np.testing.assert_array_equal(
        network.train(params, mutable, X, jax.random.PRNGKey(0))[0], evaluated + 1
    )


def test_calls_of_a_model_are_told_the_mode_and_have_keys():
    seen = []

    def call(module: Any, inputs: Any, train: bool, rngs: Any) -> Any:
        seen.append((train, rngs is None))
        return module(inputs)

    trained(Net(nnx.Rngs(0)), call=call)
    assert set(seen) == {(True, False), (False, True)}
